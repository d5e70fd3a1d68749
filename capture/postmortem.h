/* SPDX-License-Identifier: Apache-2.0 */
/* The complete report: the raw one, and all that a snapshot and the files of its modules tell. */
#pragma once

#include "base/error.h"
#include "base/json.h"
#include "capture/snapshot.h"

/**
 * postmortem_complete() - add what the snapshot knows
 * @report:  raw report; changed, and complete afterwards
 *
 * Return:  0 or -errno with @err
 */
int postmortem_complete(cJSON *report, const struct snapshot *s, struct error *err);
