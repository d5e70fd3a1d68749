/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which crashes are the same bug: two 16-digit values, stable across addresses, restarts and hosts.
 *
 *   group  the signal and the first five functions that are not machinery, by name (module and build-id offset where there
 *          is none): the same bug in different builds has the same group
 *   exact  the signal, its code and the first eight physical frames as build-id and offset: the same bug in the same build
 *
 * Both are XXH3-64 over text: they sort and group, and nobody gains anything from a collision.
 */
#pragma once

#include "base/json.h"

/* Marks the frames of the crashed thread that are machinery: "noise": true. */
void fingerprint_mark_noise(cJSON *report);

/* Adds "fingerprint". Needs "signal", "threads" and the marks. */
void fingerprint_add(cJSON *report);

/* The name without what the compiler added: ".isra.0", "[clone ...]", Rust's hash, ABI tags, inner template arguments. */
char *fingerprint_normalize(const char *function, char *ret, size_t size);
