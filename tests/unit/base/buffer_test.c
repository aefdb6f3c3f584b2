#include "base/buffer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/prng.h"
#include "base/wipe.h"

static void a_zeroed_buffer_is_empty(void **state)
{
  (void)state;
  struct buffer buffer = {0};
  assert_int_equal(buffer_size(&buffer), 0);
  assert_int_equal(buffer_peek(&buffer).size, 0);
  buffer_consume(&buffer, 0);
  assert_int_equal(buffer_append(&buffer, NULL, 0), OK);
  assert_null(buffer.data);
  buffer_deinit(&buffer);
}

static void bytes_come_out_in_order(void **state)
{
  (void)state;
  struct buffer buffer;
  buffer_init(&buffer);
  assert_int_equal(buffer_append(&buffer, "hello ", 6), OK);
  assert_int_equal(buffer_append(&buffer, "world", 5), OK);
  assert_true(span_equal(buffer_peek(&buffer), span_text("hello world")));
  buffer_consume(&buffer, 6);
  assert_true(span_equal(buffer_peek(&buffer), span_text("world")));
  buffer_deinit(&buffer);
  assert_null(buffer.data);
  assert_int_equal(buffer_size(&buffer), 0);
}

static void it_can_be_used_again_after_deinit(void **state)
{
  (void)state;
  struct buffer buffer;
  buffer_init(&buffer);
  assert_int_equal(buffer_append(&buffer, "a", 1), OK);
  buffer_deinit(&buffer);
  assert_int_equal(buffer_append(&buffer, "b", 1), OK);
  assert_true(span_equal(buffer_peek(&buffer), span_text("b")));
  buffer_deinit(&buffer);
}

static void an_emptied_buffer_keeps_its_memory(void **state)
{
  (void)state;
  struct buffer buffer;
  buffer_init(&buffer);
  assert_int_equal(buffer_append(&buffer, "abc", 3), OK);
  const uint8_t *data = buffer.data;
  buffer_consume(&buffer, 3);
  assert_int_equal(buffer_append(&buffer, "def", 3), OK);
  assert_ptr_equal(buffer_peek(&buffer).at, data);
  buffer_deinit(&buffer);
}

static void reserving_gives_room_without_committing(void **state)
{
  (void)state;
  struct buffer buffer;
  buffer_init(&buffer);
  assert_non_null(buffer_reserve(&buffer, 0));
  uint8_t *at = buffer_reserve(&buffer, 1000);
  assert_non_null(at);
  memset(at, 'x', 1000);
  assert_int_equal(buffer_size(&buffer), 0);
  buffer_commit(&buffer, 10);
  assert_int_equal(buffer_size(&buffer), 10);
  assert_true(buffer.capacity >= 1000);
  buffer_deinit(&buffer);
}

static void a_size_that_cannot_be_is_refused_and_changes_nothing(void **state)
{
  (void)state;
  struct buffer buffer;
  buffer_init(&buffer);
  assert_null(buffer_reserve(&buffer, SIZE_MAX));
  assert_int_equal(buffer_append(&buffer, "abc", 3), OK);
  assert_null(buffer_reserve(&buffer, SIZE_MAX));
  assert_null(buffer_reserve(&buffer, SIZE_MAX - 3));
  volatile size_t impossible = SIZE_MAX / 2 + 2;  // or the compiler sees what it must not see
  assert_int_equal(buffer_append(&buffer, "x", impossible), ERR_NO_MEMORY);
  assert_true(span_equal(buffer_peek(&buffer), span_text("abc")));
  buffer_deinit(&buffer);
}

// A reader that is always a little behind must not make the buffer grow.
static void a_short_backlog_stays_in_the_first_block(void **state)
{
  (void)state;
  struct buffer buffer;
  buffer_init(&buffer);
  assert_int_equal(buffer_append(&buffer, "0123456789", 10), OK);
  size_t capacity = buffer.capacity;
  for (int i = 0; i < 1000; i++) {
    assert_int_equal(buffer_append(&buffer, "0123456789", 10), OK);
    buffer_consume(&buffer, 10);
  }
  assert_int_equal(buffer.capacity, capacity);
  assert_true(span_equal(buffer_peek(&buffer), span_text("0123456789")));
  buffer_deinit(&buffer);
}

// Against counters: the n-th byte ever written is the n-th ever read.
static void random_writes_and_reads_agree_with_counters(void **state)
{
  (void)state;
  struct prng prng;
  prng_seed(&prng, 11);
  struct buffer buffer;
  buffer_init(&buffer);
  uint64_t written = 0, read = 0;
  for (int step = 0; step < 20000; step++) {
    size_t size = (size_t)prng_below(&prng, prng_below(&prng, 50) == 0 ? 5000 : 100);
    uint8_t *at = buffer_reserve(&buffer, size);
    assert_non_null(at);
    for (size_t i = 0; i < size; i++) at[i] = (uint8_t)(written++ * 31 >> 2);
    buffer_commit(&buffer, size);

    struct span unread = buffer_peek(&buffer);
    assert_int_equal(unread.size, written - read);
    size_t taken = (size_t)prng_below(&prng, unread.size + 1);
    for (size_t i = 0; i < taken; i++) assert_int_equal(unread.at[i], (uint8_t)(read++ * 31 >> 2));
    buffer_consume(&buffer, taken);
    assert_true(buffer.end <= buffer.capacity);
  }
  buffer_deinit(&buffer);
}

static void what_was_secret_is_zeroed(void **state)
{
  (void)state;
  uint8_t bytes[] = "a secret and what follows";
  wipe(bytes, 8);
  static const uint8_t zeros[8];
  assert_memory_equal(bytes, zeros, 8);
  assert_string_equal((const char *)bytes + 8, " and what follows");
  wipe(NULL, 0);
  wipe_and_free(NULL, 0);
  struct buffer buffer = {0};
  buffer_wipe(&buffer);
  assert_int_equal(buffer_append(&buffer, "secret", 6), OK);
  buffer_wipe(&buffer);
  assert_int_equal(buffer_size(&buffer), 0);
  assert_null(buffer.data);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_zeroed_buffer_is_empty),
      cmocka_unit_test(bytes_come_out_in_order),
      cmocka_unit_test(it_can_be_used_again_after_deinit),
      cmocka_unit_test(an_emptied_buffer_keeps_its_memory),
      cmocka_unit_test(what_was_secret_is_zeroed),
      cmocka_unit_test(reserving_gives_room_without_committing),
      cmocka_unit_test(a_size_that_cannot_be_is_refused_and_changes_nothing),
      cmocka_unit_test(a_short_backlog_stays_in_the_first_block),
      cmocka_unit_test(random_writes_and_reads_agree_with_counters),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
