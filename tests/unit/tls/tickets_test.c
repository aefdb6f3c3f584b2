#include "tls/tickets.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static struct mono hours(double count)
{
  return (struct mono){.ms = 1000 + (uint64_t)(count * TICKET_KEY_MS)};
}

static void a_key_seals_for_an_hour(void **state)
{
  (void)state;
  struct tickets *tickets = tickets_create();
  struct ticket_key first, again, next;
  assert_true(tickets_current(tickets, hours(0), &first));
  assert_true(tickets_current(tickets, hours(0.99), &again));
  assert_memory_equal(&first, &again, sizeof first);
  assert_true(tickets_current(tickets, hours(1), &next));
  assert_memory_not_equal(first.name, next.name, sizeof first.name);
  assert_memory_not_equal(first.cipher, next.cipher, sizeof first.cipher);
  assert_memory_not_equal(first.authentication, next.authentication, sizeof first.authentication);
  tickets_unref(tickets);
}

static void the_last_two_keys_open(void **state)
{
  (void)state;
  struct tickets *tickets = tickets_create();
  struct ticket_key first, second, third, found;
  bool renew = true;
  assert_true(tickets_current(tickets, hours(0), &first));
  assert_true(tickets_find(tickets, hours(0.5), first.name, &found, &renew));
  assert_false(renew);
  assert_true(tickets_current(tickets, hours(1), &second));
  assert_true(tickets_find(tickets, hours(1.5), first.name, &found, &renew));
  assert_memory_equal(&first, &found, sizeof first);
  assert_true(renew);
  assert_true(tickets_find(tickets, hours(1.5), second.name, &found, &renew));
  assert_false(renew);
  assert_true(tickets_current(tickets, hours(2), &third));
  assert_false(tickets_find(tickets, hours(2), first.name, &found, &renew));
  assert_true(tickets_find(tickets, hours(2), second.name, &found, &renew));
  tickets_unref(tickets);
}

static void a_key_dies_of_age_without_another_taking_its_place(void **state)
{
  (void)state;
  struct tickets *tickets = tickets_create();
  struct ticket_key first, found;
  bool renew;
  assert_true(tickets_current(tickets, hours(0), &first));
  assert_true(tickets_find(tickets, hours(1.99), first.name, &found, &renew));
  assert_true(renew);
  assert_false(tickets_find(tickets, hours(2), first.name, &found, &renew));
  tickets_unref(tickets);
}

static void a_clock_that_was_read_earlier_makes_no_key_old(void **state)
{
  (void)state;
  struct tickets *tickets = tickets_create();
  struct ticket_key first, again;
  assert_true(tickets_current(tickets, hours(1), &first));
  assert_true(tickets_current(tickets, hours(0.9999), &again));
  assert_memory_equal(&first, &again, sizeof first);
  tickets_unref(tickets);
}

static void the_last_reference_frees(void **state)
{
  (void)state;
  struct tickets *tickets = tickets_create();
  assert_ptr_equal(tickets_ref(tickets), tickets);
  tickets_unref(tickets);
  struct ticket_key key;
  assert_true(tickets_current(tickets, hours(0), &key));
  tickets_unref(tickets);
  tickets_unref(NULL);
  assert_null(tickets_ref(NULL));
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(a_key_seals_for_an_hour), cmocka_unit_test(the_last_two_keys_open),
                                     cmocka_unit_test(a_key_dies_of_age_without_another_taking_its_place),
                                     cmocka_unit_test(a_clock_that_was_read_earlier_makes_no_key_old),
                                     cmocka_unit_test(the_last_reference_frees)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
