/* SPDX-License-Identifier: Apache-2.0 */
/* The table of `status`, apart from where its contents come from. */
#pragma once

#include "cli/cli.h"

/* Adds the table of "daemon" objects (supervisor/control.h) to @out. Return: 0, or an exit code after a message */
int status_render(const struct cli *c, const cJSON *daemons, int64_t now_us, struct text *out);
