/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#if defined(__x86_64__)
#include "capture/arch_x86_64.h"
#elif defined(__aarch64__)
#include "capture/arch_aarch64.h"
#else
#error "crash capture knows x86-64 and AArch64 only"
#endif
