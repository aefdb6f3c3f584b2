// Who has to wait after wrong guesses, and for how long.
#include "auth/backoff.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

static const struct mono start = {1000};

static struct mono later(uint64_t ms)
{
  return (struct mono){start.ms + ms};
}

static struct backoff *create(uint32_t entries)
{
  struct backoff *backoff = backoff_create(entries, 77);
  assert_non_null(backoff);
  return backoff;
}

static struct span ann(void)
{
  return span_text("ann");
}

static void guess(struct backoff *backoff, const char *address, const char *user, unsigned times, struct mono now)
{
  struct backoff_source source = backoff_source_of(address);
  for (unsigned i = 0; i < times; i++) backoff_wrong(backoff, &source, span_text(user), now);
}

static uint64_t wait_ms(const struct backoff *backoff, const char *address, const char *user, struct mono now)
{
  struct backoff_source source = backoff_source_of(address);
  return backoff_wait_ms(backoff, &source, span_text(user), now);
}

static void nobody_waits_who_has_guessed_nothing(void **state)
{
  (void)state;
  struct backoff *backoff = create(8);
  assert_int_equal(wait_ms(backoff, "192.0.2.1:5", "ann", start), 0);
  assert_int_equal(backoff_count(backoff), 0);
  backoff_destroy(backoff);
  backoff_destroy(NULL);
}

static void the_wait_doubles_up_to_a_minute(void **state)
{
  (void)state;
  static const uint64_t expected[] = {0, 0, 0, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000, 60000};
  struct backoff *backoff = create(8);
  struct mono now = start;
  for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
    guess(backoff, "192.0.2.1:5", "ann", 1, now);
    assert_int_equal(wait_ms(backoff, "192.0.2.1:5", "ann", now), expected[i]);
    if (expected[i] > 0) {
      assert_int_equal(wait_ms(backoff, "192.0.2.1:5", "ann", (struct mono){now.ms + 400}), expected[i] - 400);
      now.ms += expected[i];
    }
    assert_int_equal(wait_ms(backoff, "192.0.2.1:5", "ann", now), 0);
  }
  backoff_destroy(backoff);
}

static void very_many_guesses_do_not_wrap_around(void **state)
{
  (void)state;
  struct backoff *backoff = create(8);
  guess(backoff, "192.0.2.1:5", "ann", 100000, start);
  assert_int_equal(wait_ms(backoff, "192.0.2.1:5", "ann", start), BACKOFF_MOST_MS);
  backoff_destroy(backoff);
}

static void one_user_s_guesses_do_not_keep_out_others_from_there(void **state)
{
  (void)state;
  struct backoff *backoff = create(8);
  guess(backoff, "192.0.2.1:5", "ann", BACKOFF_FREE_USER + 3, start);
  assert_int_equal(wait_ms(backoff, "192.0.2.1:6", "ann", start), 4000);
  assert_int_equal(wait_ms(backoff, "192.0.2.1:6", "bob", start), 0);
  backoff_destroy(backoff);
}

static void names_tried_one_after_the_other_make_the_address_wait(void **state)
{
  (void)state;
  struct backoff *backoff = create(64);
  for (unsigned i = 0; i < BACKOFF_FREE_ADDRESS; i++) {
    char user[16];
    snprintf(user, sizeof user, "user%u", i);
    guess(backoff, "192.0.2.1:5", user, 1, start);
  }
  assert_int_equal(wait_ms(backoff, "192.0.2.1:5", "ann", start), 0);
  guess(backoff, "192.0.2.1:5", "one-more", 1, start);
  assert_int_equal(wait_ms(backoff, "192.0.2.1:5", "ann", start), 1000);
  assert_int_equal(wait_ms(backoff, "192.0.2.1:5", "", start), 1000);
  assert_int_equal(wait_ms(backoff, "192.0.2.2:5", "ann", start), 0);
  backoff_destroy(backoff);
}

static void guesses_without_a_name_count_for_the_address(void **state)
{
  (void)state;
  struct backoff *backoff = create(8);
  guess(backoff, "192.0.2.1:5", "", BACKOFF_FREE_ADDRESS + 2, start);
  assert_int_equal(wait_ms(backoff, "192.0.2.1:5", "", start), 2000);
  assert_int_equal(backoff_count(backoff), 1);
  backoff_destroy(backoff);
}

static void what_is_right_forgives_the_user_and_not_the_address(void **state)
{
  (void)state;
  struct backoff *backoff = create(64);
  struct backoff_source source = backoff_source_of("192.0.2.1:5");
  // Whoever comes in as ann in between goes on guessing at bob, but not at carl and the others.
  for (unsigned i = 0; i < BACKOFF_FREE_ADDRESS + 1; i++) {
    guess(backoff, "192.0.2.1:5", i % 2 ? "bob" : "ann", 1, start);
    backoff_right(backoff, &source, ann());
  }
  assert_int_equal(wait_ms(backoff, "192.0.2.1:5", "bob", start), 4000);
  assert_int_equal(wait_ms(backoff, "192.0.2.1:5", "carl", start), 1000);
  assert_int_equal(wait_ms(backoff, "192.0.2.1:5", "ann", start), 0);
  assert_int_equal(wait_ms(backoff, "192.0.2.2:5", "ann", start), 0);
  assert_int_equal(backoff_count(backoff), 3);
  backoff_right(backoff, &source, (struct span){0});
  assert_int_equal(backoff_count(backoff), 3);
  backoff_destroy(backoff);
}

static void who_is_known_there_waits_for_its_own_guesses_only(void **state)
{
  (void)state;
  struct backoff *backoff = create(64);
  struct backoff_source source = backoff_source_of("192.0.2.1:5");
  backoff_right(backoff, &source, ann());
  guess(backoff, "192.0.2.1:5", "", BACKOFF_FREE_ADDRESS + 3, start);
  assert_int_equal(wait_ms(backoff, "192.0.2.1:5", "bob", start), 4000);
  assert_int_equal(wait_ms(backoff, "192.0.2.1:5", "ann", start), 0);
  guess(backoff, "192.0.2.1:5", "ann", BACKOFF_FREE_USER + 1, start);
  assert_int_equal(wait_ms(backoff, "192.0.2.1:5", "ann", start), 1000);
  backoff_destroy(backoff);
}

static void an_address_is_forgiven_with_the_time(void **state)
{
  (void)state;
  struct backoff *backoff = create(64);
  // A device that tries once a minute, for ever, does not make its address wait.
  for (unsigned i = 0; i < 1000; i++) {
    guess(backoff, "192.0.2.1:5", "", 1, later(i * 60000ull));
    assert_int_equal(wait_ms(backoff, "192.0.2.1:5", "", later(i * 60000ull)), 0);
  }
  backoff_destroy(backoff);

  // One that tries as often as it may is let through about as often as guesses are forgiven.
  backoff = create(64);
  unsigned guesses = 0;
  const uint64_t hours_ms = 4 * 3600000ull;
  for (uint64_t ms = 0; ms < hours_ms; ms += 100) {
    if (wait_ms(backoff, "192.0.2.1:5", "", later(ms)) > 0) continue;
    guess(backoff, "192.0.2.1:5", "", 1, later(ms));
    guesses++;
  }
  assert_in_range(guesses, hours_ms / BACKOFF_DRAIN_MS / 2, hours_ms / BACKOFF_DRAIN_MS + 20);
  backoff_destroy(backoff);
}

static void after_a_quarter_of_an_hour_all_is_forgotten(void **state)
{
  (void)state;
  struct backoff *backoff = create(8);
  guess(backoff, "192.0.2.1:5", "ann", 30, start);
  assert_int_equal(wait_ms(backoff, "192.0.2.1:5", "ann", later(BACKOFF_MOST_MS)), 0);
  guess(backoff, "192.0.2.1:5", "ann", 1, later(BACKOFF_FORGET_MS - 1));
  assert_int_equal(wait_ms(backoff, "192.0.2.1:5", "ann", later(BACKOFF_FORGET_MS)), BACKOFF_MOST_MS - 1);

  struct mono end = later(2ull * BACKOFF_FORGET_MS);
  guess(backoff, "192.0.2.1:5", "ann", BACKOFF_FREE_USER, end);
  assert_int_equal(wait_ms(backoff, "192.0.2.1:5", "ann", end), 0);
  guess(backoff, "192.0.2.1:5", "ann", 1, end);
  assert_int_equal(wait_ms(backoff, "192.0.2.1:5", "ann", end), 1000);
  backoff_destroy(backoff);
}

static void a_clock_read_a_little_earlier_forgets_nothing(void **state)
{
  (void)state;
  struct backoff *backoff = create(8);
  guess(backoff, "192.0.2.1:5", "ann", BACKOFF_FREE_USER + 1, later(5));
  assert_int_equal(wait_ms(backoff, "192.0.2.1:5", "ann", start), 1000);
  guess(backoff, "192.0.2.1:5", "ann", 1, start);
  assert_int_equal(wait_ms(backoff, "192.0.2.1:5", "ann", later(5)), 1995);
  backoff_destroy(backoff);
}

static void the_least_recent_entry_makes_room(void **state)
{
  (void)state;
  struct backoff *backoff = create(4);
  for (unsigned i = 0; i < 5; i++) {
    char address[32];
    snprintf(address, sizeof address, "192.0.2.%u:5", i);
    guess(backoff, address, "ann", BACKOFF_FREE_USER + 1, later(i));
    if (i == 3) guess(backoff, "192.0.2.0:5", "ann", 1, later(i));  // the first is not the least recent any more
  }
  assert_int_equal(backoff_count(backoff), 8);
  assert_true(wait_ms(backoff, "192.0.2.0:5", "ann", later(5)) > 0);
  assert_int_equal(wait_ms(backoff, "192.0.2.1:5", "ann", later(5)), 0);
  assert_true(wait_ms(backoff, "192.0.2.4:5", "ann", later(5)) > 0);
  backoff_destroy(backoff);
}

static void many_addresses_take_bounded_memory(void **state)
{
  (void)state;
  struct backoff *backoff = create(BACKOFF_ENTRIES);
  for (unsigned i = 0; i < 3 * BACKOFF_ENTRIES; i++) {
    char address[32];
    snprintf(address, sizeof address, "10.%u.%u.%u:1", i >> 16, i >> 8 & 255, i & 255);
    guess(backoff, address, "ann", 1, later(i));
    assert_true(backoff_count(backoff) <= 2 * BACKOFF_ENTRIES);
  }
  assert_int_equal(backoff_count(backoff), 2 * BACKOFF_ENTRIES);
  backoff_destroy(backoff);
}

static void check_same(const char *one, const char *other, bool same)
{
  struct backoff_source a = backoff_source_of(one), b = backoff_source_of(other);
  if ((memcmp(&a, &b, sizeof a) == 0) != same) fail_msg("%s and %s", one, other);
}

static void addresses_are_told_apart_as_far_as_they_are_somebody_s(void **state)
{
  (void)state;
  check_same("192.0.2.1:5", "192.0.2.1:51234", true);
  check_same("192.0.2.1:5", "192.0.2.1", true);
  check_same("192.0.2.1:5", "192.0.2.2:5", false);
  check_same("[2001:db8:1:2::1]:5", "[2001:db8:1:2:ffff::9]:7", true);
  check_same("[2001:db8:1:2::1]:5", "[2001:db8:1:3::1]:5", false);
  check_same("2001:db8:1:2::1", "[2001:db8:1:2::1]:5", true);
  check_same("[::ffff:192.0.2.1]:5", "192.0.2.1:6", true);
  check_same("[::ffff:192.0.2.1]:5", "[::ffff:192.0.2.2]:5", false);
  check_same("127.0.0.1:5", "127.0.0.2:5", false);
  check_same("unix", "unix", true);
  check_same("unix", "127.0.0.1:5", false);
  check_same("", "unix", true);
  check_same(":5", "unix", true);
  check_same("[]:5", "unix", true);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(nobody_waits_who_has_guessed_nothing),
      cmocka_unit_test(the_wait_doubles_up_to_a_minute),
      cmocka_unit_test(very_many_guesses_do_not_wrap_around),
      cmocka_unit_test(one_user_s_guesses_do_not_keep_out_others_from_there),
      cmocka_unit_test(names_tried_one_after_the_other_make_the_address_wait),
      cmocka_unit_test(guesses_without_a_name_count_for_the_address),
      cmocka_unit_test(what_is_right_forgives_the_user_and_not_the_address),
      cmocka_unit_test(who_is_known_there_waits_for_its_own_guesses_only),
      cmocka_unit_test(an_address_is_forgiven_with_the_time),
      cmocka_unit_test(after_a_quarter_of_an_hour_all_is_forgotten),
      cmocka_unit_test(a_clock_read_a_little_earlier_forgets_nothing),
      cmocka_unit_test(the_least_recent_entry_makes_room),
      cmocka_unit_test(many_addresses_take_bounded_memory),
      cmocka_unit_test(addresses_are_told_apart_as_far_as_they_are_somebody_s),
  };
  return cmocka_run_group_tests_name("backoff", tests, NULL, NULL);
}
