// Records that are larger than a segment.
#include "store_rig.h"

enum { FILTERS = 400 };

// Of a client with many subscriptions the part of a checkpoint does not fit into a file of the reserve. On a full disk, where
// nothing is freed without a checkpoint, there must be room for it all the same.
static void fill_and_drain(struct rig *rig)
{
  struct buffer records = {0};
  rig_open(rig);
  model_put_session(&rig->model, &records);
  model_put_session(&rig->model, &records);
  rig_submit_records(rig, &records);
  rig_rounds(rig, 1);
  for (unsigned i = 0; i < FILTERS; i++) {
    char filter[64];
    snprintf(filter, sizeof filter, "site/of/a/client/with/many/subscriptions/number/%u", i);
    assert_ok(record_put_subscribe(&records, &(struct record_subscribe){.session = 1, .filter = span_text(filter)}));
  }
  rig_submit_records(rig, &records);
  rig_rounds(rig, 1);
  unsigned count = 0;
  for (; store_state(rig->store) == JOURNAL_OK; count += 10) {
    assert_true(count < 10000);
    for (unsigned i = 0; i < 10; i++) model_put_message(&rig->model, 2, 100, &records);
    rig_submit_records(rig, &records);
    rig_rounds(rig, 1);
  }
  assert_int_equal(store_state(rig->store), JOURNAL_FULL);
  model_put_done(&rig->model, 2, 0, count, &records);
  rig_submit_records(rig, &records);
  for (unsigned i = 0; i < 20; i++) rig_rounds(rig, 1000);
  assert_int_equal(store_state(rig->store), JOURNAL_OK);
  assert_int_equal(store_committed(rig->store), rig->batches);
  assert_true(rig_counters(rig).bytes < rig->settings.limit_bytes / 2);
  buffer_deinit(&records);
}

static void a_large_checkpoint_at_the_limit(void **state)
{
  struct rig *rig = *state;
  rig->settings.segment_bytes = 8192;
  rig->settings.reserve_bytes = 65536;
  rig->settings.limit_bytes = 262144;
  fill_and_drain(rig);
  rig_crash_blind(rig, SIM_POWER_CUT);
  assert_int_equal(catalog_find(store_catalog(rig->store), 1)->subscription_count, FILTERS);
}

static void a_large_checkpoint_on_a_full_disk(void **state)
{
  struct rig *rig = *state;
  rig->settings.segment_bytes = 8192;
  rig->settings.reserve_bytes = 65536;
  sim_disk_set_capacity(rig->disk, 300000);
  fill_and_drain(rig);
  rig_crash_blind(rig, SIM_POWER_CUT);
  assert_int_equal(catalog_find(store_catalog(rig->store), 1)->subscription_count, FILTERS);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      WITH_RIG(a_large_checkpoint_at_the_limit),
      WITH_RIG(a_large_checkpoint_on_a_full_disk),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
