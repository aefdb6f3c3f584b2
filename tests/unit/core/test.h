// What every test of src/core includes.
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/pool.h"
#include "base/prng.h"
#include "base/span.h"

#define assert_span_text(span, text) assert_true(span_equal((span), span_text(text)))
#define assert_ok(call) assert_int_equal((call), OK)

// A pool with a budget, to see whether all memory came back.
struct counted_pool {
  struct memory_budget budget;
  struct pool pool;
};

static inline void counted_pool_init(struct counted_pool *counted)
{
  counted->budget = (struct memory_budget){.limit_bytes = INT64_MAX};
  pool_init(&counted->pool, &counted->budget);
}

static inline int64_t counted_pool_used(struct counted_pool *counted)
{
  pool_settle(&counted->pool);
  return counted->budget.used_bytes;
}

static inline void counted_pool_deinit(struct counted_pool *counted)
{
  assert_int_equal(counted_pool_used(counted), 0);
  pool_deinit(&counted->pool);
}
