/* SPDX-License-Identifier: Apache-2.0 */
/* Any payload: refused, or decoded into views within it that encode again to the same fields. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "base/text.h"
#include "log/record.h"
#include "log/spool.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_text_ struct text t = { 0 };
	struct record a, b;

	if (record_decode(data, size, &a) < 0)
		return 0;
	assert(!a.message.size || (a.message.data >= (const char *)data &&
				      a.message.data + a.message.size <= (const char *)data + size));
	assert(!record_encode(&a, &t));
	assert(t.size <= SPOOL_FRAME_MAX);
	assert(!record_decode(t.data, t.size, &b));
	assert(a.kind == b.kind && a.level == b.level && a.pid == b.pid && a.ts_us == b.ts_us);
	assert(a.message.size > 1000 || (a.message.size == b.message.size &&
					    (!a.message.size || !memcmp(a.message.data, b.message.data, a.message.size))));
	return 0;
}
