// The trie and its cache against mqtt_filter_matches over a plain list.
#include "bench.h"

#include "core/shard_internal.h"
#include "mqtt/topic.h"

// ---- A dumb index

enum { SESSIONS = 6, MODEL_SUBS = 256, MODEL_REMOTES = 64 };

struct model_sub {
  unsigned session;
  char filter[64];
  struct subscription options;
};

struct model_remote {
  char filter[64];
  uint32_t bit;
};

struct world {
  struct bench bench;
  struct shard *shard;
  struct session *sessions[SESSIONS];
  struct prng prng;
  struct model_sub subs[MODEL_SUBS];
  size_t sub_count;
  struct model_remote remotes[MODEL_REMOTES];
  size_t remote_count;
};

static struct world *world_create(uint64_t seed)
{
  struct world *world = calloc(1, sizeof *world);
  assert_non_null(world);
  bench_init(&world->bench, 1, NULL);
  world->shard = world->bench.shards[0];
  prng_seed(&world->prng, seed);
  for (unsigned i = 0; i < SESSIONS; i++) {
    char id[4] = {'s', (char)('0' + i)};
    world->sessions[i] = session_create(world->shard, span_text(id));
    assert_non_null(world->sessions[i]);
  }
  return world;
}

static void world_destroy(struct world *world)
{
  bench_deinit(&world->bench);
  free(world);
}

static void random_text(struct prng *prng, bool filter, char out[64])
{
  static const char *const levels[] = {"", "a", "b", "$x", "c d", "level"};
  struct mqtt_filter parsed;
  do {
    out[0] = 0;
    uint64_t depth = 1 + prng_below(prng, 5);
    for (uint64_t i = 0; i < depth; i++) {
      if (i > 0) strcat(out, "/");
      if (filter && prng_below(prng, 4) == 0) {
        strcat(out, "+");
      } else if (filter && i + 1 == depth && prng_below(prng, 3) == 0) {
        strcat(out, "#");
      } else {
        strcat(out, levels[prng_below(prng, i == 0 ? 6 : 5)]);
      }
    }
  } while (!mqtt_filter_parse(span_text(out), &parsed));
}

static struct model_sub *model_find(struct world *world, unsigned session, const char *filter)
{
  for (size_t i = 0; i < world->sub_count; i++)
    if (world->subs[i].session == session && strcmp(world->subs[i].filter, filter) == 0) return &world->subs[i];
  return NULL;
}

static void subscribe(struct world *world)
{
  if (world->sub_count == MODEL_SUBS) return;
  unsigned session = (unsigned)prng_below(&world->prng, SESSIONS);
  char filter[64];
  random_text(&world->prng, true, filter);
  struct subscription options = {.id = (uint32_t)prng_below(&world->prng, 4),
                                 .qos = (uint8_t)prng_below(&world->prng, 3),
                                 .no_local = prng_below(&world->prng, 4) == 0,
                                 .retain_as_published = prng_below(&world->prng, 4) == 0};
  struct model_sub *known = model_find(world, session, filter);
  bool is_new;
  assert_ok(session_subscribe(world->sessions[session], &options, span_text(filter), 0, &is_new));
  assert_int_equal(is_new, known == NULL);
  if (!known) {
    known = &world->subs[world->sub_count++];
    known->session = session;
    strcpy(known->filter, filter);
  }
  known->options = options;
}

static void unsubscribe(struct world *world)
{
  char filter[64];
  unsigned session = (unsigned)prng_below(&world->prng, SESSIONS);
  random_text(&world->prng, true, filter);
  if (world->sub_count > 0 && prng_below(&world->prng, 4)) {
    const struct model_sub *sub = &world->subs[prng_below(&world->prng, world->sub_count)];
    session = sub->session;
    strcpy(filter, sub->filter);
  }
  struct model_sub *known = model_find(world, session, filter);
  assert_int_equal(session_unsubscribe(world->sessions[session], span_text(filter)), known != NULL);
  if (known) *known = world->subs[--world->sub_count];
}

static void change_remote(struct world *world)
{
  uint32_t bit = 1u << (1 + prng_below(&world->prng, 3));
  if (world->remote_count < MODEL_REMOTES && prng_below(&world->prng, 2)) {
    struct model_remote *remote = &world->remotes[world->remote_count++];
    remote->bit = bit;
    random_text(&world->prng, true, remote->filter);
    struct filter_end *end = index_end(&world->shard->index, span_text(remote->filter));
    assert_non_null(end);
    end->remote |= bit;
    index_changed(&world->shard->index);
  } else if (world->remote_count > 0) {
    struct model_remote gone = world->remotes[prng_below(&world->prng, world->remote_count)];
    struct filter_end *end = index_find(&world->shard->index, span_text(gone.filter));
    assert_non_null(end);
    end->remote &= ~gone.bit;
    index_changed(&world->shard->index);
    index_release(&world->shard->index, end);
    for (size_t i = world->remote_count; i-- > 0;)
      if (strcmp(world->remotes[i].filter, gone.filter) == 0 && world->remotes[i].bit == gone.bit)
        world->remotes[i] = world->remotes[--world->remote_count];
  }
}

static uint32_t tag_count(const struct tag *tag, uint32_t id)
{
  uint32_t count = 0;
  for (uint32_t i = 0; tag && i < tag->id_count; i++) count += tag->ids[i] == id;
  return count;
}

// What the list says about one session; the target may be NULL when nothing is found.
static void check_session(const struct world *world, unsigned session, struct span topic, bool without_no_local,
                          const struct target *target)
{
  struct subscription expected = {0};
  uint32_t ids[4] = {0};
  uint32_t matching = 0;
  for (size_t i = 0; i < world->sub_count; i++) {
    const struct model_sub *sub = &world->subs[i];
    if (sub->session != session || !mqtt_filter_matches(span_text(sub->filter), topic)) continue;
    if (without_no_local && sub->options.no_local) continue;
    matching++;
    if (sub->options.qos > expected.qos) expected.qos = sub->options.qos;
    expected.no_local |= sub->options.no_local;
    expected.retain_as_published |= sub->options.retain_as_published;
    ids[sub->options.id]++;
  }
  assert_int_equal(target != NULL, matching > 0);
  if (!target) return;
  assert_ptr_equal(target->session, world->sessions[session]);
  assert_int_equal(target->qos, expected.qos);
  assert_int_equal(target->no_local, expected.no_local);
  assert_int_equal(target->retain_as_published, expected.retain_as_published);
  assert_int_equal(target->tag ? target->tag->id_count : 0, ids[1] + ids[2] + ids[3]);
  for (uint32_t id = 1; id < 4; id++) assert_int_equal(tag_count(target->tag, id), ids[id]);
}

static void check_topic(struct world *world, const char *text)
{
  struct index *index = &world->shard->index;
  struct span topic = span_text(text);
  const struct match *match = index_match(index, topic, index_hash(index, topic));
  assert_non_null(match);
  uint32_t remote = 0;
  for (size_t i = 0; i < world->remote_count; i++)
    if (mqtt_filter_matches(span_text(world->remotes[i].filter), topic)) remote |= world->remotes[i].bit;
  assert_int_equal(match->remote, remote);
  for (unsigned session = 0; session < SESSIONS; session++) {
    const struct target *target = NULL;
    for (uint32_t i = 0; i < match->target_count; i++) {
      if (match->targets[i].session != world->sessions[session]) continue;
      assert_null(target);  // once
      target = &match->targets[i];
    }
    check_session(world, session, topic, false, target);
    struct target own;
    bool any = index_own_target(index, topic, world->sessions[session], &own);
    check_session(world, session, topic, true, any ? &own : NULL);
    if (any) tag_unref(own.tag);
  }
}

static void index_follows_the_list(void **state)
{
  (void)state;
  for (uint64_t seed = 1; seed <= 8; seed++) {
    struct world *world = world_create(seed);
    for (unsigned step = 0; step < 3000; step++) {
      uint64_t what = prng_below(&world->prng, 20);
      if (what < (step % 1000 < 600 ? 5u : 2u))
        subscribe(world);
      else if (what < 8)
        unsubscribe(world);
      else if (what == 8)
        change_remote(world);
      char topic[64];
      random_text(&world->prng, false, topic);
      check_topic(world, topic);
      check_topic(world, topic);  // now from the cache
    }
    assert_true(world->shard->index.hits > 3000);
    assert_int_equal(bench_counters(&world->bench).subscriptions, world->sub_count);
    // All gone: only the root is left.
    while (world->sub_count > 0) {
      struct model_sub *sub = &world->subs[0];
      assert_true(session_unsubscribe(world->sessions[sub->session], span_text(sub->filter)));
      *sub = world->subs[--world->sub_count];
    }
    while (world->remote_count > 0) change_remote(world);
    assert_int_equal(world->shard->index.children.count, 0);
    assert_null(world->shard->index.root->plus);
    assert_int_equal(world->shard->index.root->children, 0);
    check_topic(world, "a/b");
    world_destroy(world);
  }
}

// ---- Texts

static void ends_know_their_text(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  static const char *const filters[] = {"#",  "/",   "//",  "+",     "+/+", "a",  "a/#",
                                        "/#", "//#", "+/#", "a/+/b", "/a",  "a/", "$SYS/#"};
  struct index *index = &bench->shards[0]->index;
  struct filter_end *ends[sizeof filters / sizeof filters[0]];
  for (size_t i = 0; i < sizeof filters / sizeof filters[0]; i++) {
    assert_null(index_find(index, span_text(filters[i])));
    ends[i] = index_end(index, span_text(filters[i]));
    assert_non_null(ends[i]);
    ends[i]->remote = 2;
  }
  for (size_t i = 0; i < sizeof filters / sizeof filters[0]; i++) {
    char *text = filter_end_text(ends[i]);
    assert_string_equal(text, filters[i]);
    free(text);
    assert_ptr_equal(index_find(index, span_text(filters[i])), ends[i]);
    assert_ptr_equal(index_end(index, span_text(filters[i])), ends[i]);
  }
  for (size_t i = 0; i < sizeof filters / sizeof filters[0]; i++) {
    index_release(index, ends[i]);  // still wanted by another shard
    assert_ptr_equal(index_find(index, span_text(filters[i])), ends[i]);
    ends[i]->remote = 0;
    index_release(index, ends[i]);
    assert_null(index_find(index, span_text(filters[i])));
  }
  assert_int_equal(index->root->children, 0);
}

static void dollar_topics_are_not_for_wildcards(void **state)
{
  (void)state;
  struct world *world = world_create(1);
  static const char *const filters[] = {"#", "+/a", "+/#", "$x/#", "$x/+", "$x"};
  for (unsigned i = 0; i < SESSIONS; i++) {
    bool is_new;
    struct subscription options = {.qos = 1};
    assert_ok(session_subscribe(world->sessions[i], &options, span_text(filters[i]), 0, &is_new));
    world->subs[world->sub_count] = (struct model_sub){.session = i, .options = options};
    strcpy(world->subs[world->sub_count++].filter, filters[i]);
  }
  static const char *const topics[] = {"$x/a", "$x", "$", "$y/a", "a/$x", "/a", "x/a"};
  static const unsigned counts[] = {2, 2, 0, 0, 2, 3, 3};
  struct index *index = &world->shard->index;
  for (size_t i = 0; i < sizeof topics / sizeof topics[0]; i++) {
    check_topic(world, topics[i]);
    assert_int_equal(index_match(index, span_text(topics[i]), index_hash(index, span_text(topics[i])))->target_count,
                     counts[i]);
  }
  world_destroy(world);
}

// ---- Sizes

static void longest_topics_and_filters(void **state)
{
  (void)state;
  struct world *world = world_create(2);
  struct index *index = &world->shard->index;
  enum { SIZE = 65535 };
  char *slashes = malloc(SIZE), *pluses = malloc(SIZE), *name = malloc(SIZE);
  assert_non_null(slashes);
  assert_non_null(pluses);
  assert_non_null(name);
  memset(slashes, '/', SIZE);                                       // 65,536 empty levels
  for (size_t i = 0; i < SIZE; i++) pluses[i] = i % 2 ? '/' : '+';  // 32,768 levels
  memset(name, 'n', SIZE);                                          // one level
  struct span filters[4] = {span_of(slashes, SIZE), span_of(pluses, SIZE), span_of(name, SIZE), span_text("#")};
  bool is_new;
  for (unsigned i = 0; i < 4; i++)
    assert_ok(session_subscribe(world->sessions[i], &(struct subscription){.qos = 2}, filters[i], 0, &is_new));
  struct span topics[4] = {span_of(slashes, SIZE), span_of(slashes, 32767), span_of(name, SIZE), span_of(slashes, 100)};
  for (unsigned i = 0; i < 4; i++) {
    const struct match *match = index_match(index, topics[i], index_hash(index, topics[i]));
    assert_non_null(match);
    uint32_t expected = 0;
    for (unsigned f = 0; f < 4; f++) expected += mqtt_filter_matches(filters[f], topics[i]);
    assert_int_equal(match->target_count, expected);
    assert_int_equal(expected, i == 3 ? 1 : 2);
  }
  char *text = filter_end_text(index_find(index, filters[1]));
  assert_memory_equal(text, pluses, SIZE);
  assert_int_equal(text[SIZE], 0);
  free(text);
  for (unsigned i = 0; i < 4; i++) assert_true(session_unsubscribe(world->sessions[i], filters[i]));
  assert_int_equal(index->children.count, 0);
  free(slashes);
  free(pluses);
  free(name);
  world_destroy(world);
}

static void many_clients_of_one_filter(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  enum { COUNT = 100000 };
  struct session **sessions = calloc(COUNT, sizeof *sessions);
  assert_non_null(sessions);
  bool is_new;
  for (unsigned i = 0; i < COUNT; i++) {
    sessions[i] = session_create(bench->shards[0], span_of(&i, sizeof i));
    assert_non_null(sessions[i]);
    assert_ok(session_subscribe(sessions[i], &(struct subscription){.qos = 1}, span_text("a/+"), 0, &is_new));
    assert_true(is_new);
  }
  struct index *index = &bench->shards[0]->index;
  struct span topic = span_text("a/b");
  const struct match *match = index_match(index, topic, index_hash(index, topic));
  assert_int_equal(match->target_count, COUNT);
  for (unsigned i = 0; i < COUNT; i++) {
    assert_true(session_unsubscribe(sessions[i], span_text("a/+")));
    assert_false(session_unsubscribe(sessions[i], span_text("a/+")));
  }
  assert_int_equal(index_match(index, topic, index_hash(index, topic))->target_count, 0);
  free(sessions);
}

static void many_filters_of_one_client(void **state)
{
  enum { COUNT = 100000 };
  struct limits limits = limits_default();
  limits.subscriptions = COUNT;
  struct bench *bench = bench_make(state, 1, &limits);
  struct session *session = session_create(bench->shards[0], span_text("s"));
  assert_non_null(session);
  char filter[32];
  bool is_new;
  for (unsigned i = 0; i < COUNT; i++) {
    snprintf(filter, sizeof filter, "plant/%u/+/%u", i % 1000, i);
    assert_ok(session_subscribe(session, &(struct subscription){.qos = 1}, span_text(filter), 0, &is_new));
    assert_true(is_new);
  }
  assert_int_equal(session_subscribe(session, &(struct subscription){0}, span_text("one/more"), 0, &is_new), ERR_FULL);
  assert_int_equal(session->subscription_count, COUNT);
  struct index *index = &bench->shards[0]->index;
  for (unsigned i = 0; i < COUNT; i += 7) {
    snprintf(filter, sizeof filter, "plant/%u/x/%u", i % 1000, i);
    assert_int_equal(index_match(index, span_text(filter), index_hash(index, span_text(filter)))->target_count, 1);
  }
  session_end(session);
  assert_int_equal(index->children.count, 0);
}

// All identifiers are told, the same one as often as it matches [MQTT-3.3.4-4, -5].
static void identifiers_of_many_overlaps(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  struct session *session = session_create(bench->shards[0], span_text("s"));
  assert_non_null(session);
  bool is_new;
  // 2^7 filters match a topic of seven levels.
  for (unsigned i = 0; i < 128; i++) {
    char filter[16];
    for (unsigned level = 0; level < 7; level++) {
      filter[2 * level] = i >> level & 1 ? '+' : 'x';
      filter[2 * level + 1] = level == 6 ? 0 : '/';
    }
    assert_ok(session_subscribe(session, &(struct subscription){.id = 1 + i % 50}, span_text(filter), 0, &is_new));
  }
  struct index *index = &bench->shards[0]->index;
  struct span topic = span_text("x/x/x/x/x/x/x");
  const struct match *match = index_match(index, topic, index_hash(index, topic));
  assert_int_equal(match->target_count, 1);
  assert_int_equal(match->targets[0].tag->id_count, 128);
  for (uint32_t id = 1; id <= 50; id++) assert_int_equal(tag_count(match->targets[0].tag, id), id <= 28 ? 3 : 2);
}

// ---- The cache

static void the_cache_is_bounded(void **state)
{
  (void)state;
  struct world *world = world_create(3);
  struct index *index = &world->shard->index;
  bool is_new;
  for (unsigned i = 0; i < SESSIONS; i++)
    assert_ok(session_subscribe(world->sessions[i], &(struct subscription){.id = 1}, span_text("t/#"), 0, &is_new));
  char topic[32];
  for (unsigned i = 0; i < 4 * INDEX_CACHE_MATCHES; i++) {
    snprintf(topic, sizeof topic, "t/%u", i);
    assert_int_equal(index_match(index, span_text(topic), index_hash(index, span_text(topic)))->target_count, SESSIONS);
    // A topic that is used all the time stays.
    uint64_t misses = index->misses;
    index_match(index, span_text("t/hot"), index_hash(index, span_text("t/hot")));
    if (i > 0) assert_int_equal(index->misses, misses);
  }
  assert_true(index->cached_targets <= (uint64_t)INDEX_CACHE_MATCHES * SESSIONS);
  // Every change makes it look again, and the counts of what is cached stay right.
  session_end(world->sessions[0]);
  assert_int_equal(index_match(index, span_text("t/hot"), index_hash(index, span_text("t/hot")))->target_count,
                   SESSIONS - 1);
  world_destroy(world);
}

static void the_cache_is_bounded_by_targets(void **state)
{
  struct bench *bench = bench_make(state, 1, NULL);
  enum { COUNT = 2000 };
  struct index *index = &bench->shards[0]->index;
  bool is_new;
  for (unsigned i = 0; i < COUNT; i++) {
    struct session *session = session_create(bench->shards[0], span_of(&i, sizeof i));
    assert_non_null(session);
    assert_ok(session_subscribe(session, &(struct subscription){.qos = 0}, span_text("#"), 0, &is_new));
  }
  char topic[32];
  for (unsigned i = 0; i < 2 * INDEX_CACHE_TARGETS / COUNT; i++) {
    snprintf(topic, sizeof topic, "%u", i);
    assert_int_equal(index_match(index, span_text(topic), index_hash(index, span_text(topic)))->target_count, COUNT);
    assert_true(index->cached_targets <= INDEX_CACHE_TARGETS + COUNT);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(index_follows_the_list),
      WITH_BENCH(ends_know_their_text),
      cmocka_unit_test(dollar_topics_are_not_for_wildcards),
      cmocka_unit_test(longest_topics_and_filters),
      WITH_BENCH(many_clients_of_one_filter),
      WITH_BENCH(many_filters_of_one_client),
      WITH_BENCH(identifiers_of_many_overlaps),
      cmocka_unit_test(the_cache_is_bounded),
      WITH_BENCH(the_cache_is_bounded_by_targets),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
