// Access control lists, compared with a plain walk through the rules.
#include "test.h"

#include "base/hash.h"
#include "core/acl.h"
#include "core/acl_internal.h"
#include "mqtt/topic.h"

enum { MOST_TOPICS = 4 };

#define PUB ACL_PUBLISH
#define SUB ACL_SUBSCRIBE
#define REC ACL_RECEIVE
#define ALL (PUB | SUB | REC)

// A rule in short: "user:ann", "client:c*", "cert.ou:x", "*", "anonymous".
struct short_rule {
  const char *who;
  bool allow;
  uint8_t verbs;
  const char *topics[MOST_TOPICS];
  bool limited;  // by qos_max
  uint8_t qos_max;
  enum acl_retain retain;
};

#define ALLOW(who_, verbs_, ...)                                                                                            \
  {                                                                                                                         \
    .who = (who_), .allow = true, .verbs = (verbs_), .topics = { __VA_ARGS__ }                                              \
  }
#define DENY(who_, verbs_, ...)                                                                                             \
  {                                                                                                                         \
    .who = (who_), .allow = false, .verbs = (verbs_), .topics = { __VA_ARGS__ }                                             \
  }

static void name_subject(struct acl_rule *rule, const char *who)
{
  const char *colon = strchr(who, ':');
  if (strcmp(who, "*") == 0) {
    rule->subject = ACL_ANYBODY;
    return;
  }
  if (strcmp(who, "anonymous") == 0) {
    rule->subject = ACL_ANONYMOUS;
    return;
  }
  assert_non_null(colon);
  struct span kind = span_of(who, (size_t)(colon - who));
  rule->who = span_text(colon + 1);
  if (span_equal(kind, span_text("user")))
    rule->subject = ACL_USER;
  else if (span_equal(kind, span_text("group")))
    rule->subject = ACL_GROUP;
  else if (span_equal(kind, span_text("client")))
    rule->subject = ACL_CLIENT;
  else if (span_equal(kind, span_text("listener")))
    rule->subject = ACL_LISTENER;
  else {
    rule->subject = ACL_FACT;
    rule->fact = kind;
  }
}

static enum status add(struct acl *acl, const struct short_rule *wanted, uint32_t line, struct error *error)
{
  struct span topics[MOST_TOPICS];
  struct acl_rule rule = {.verbs = wanted->verbs,
                          .allow = wanted->allow,
                          .qos_max = wanted->limited ? wanted->qos_max : 2,
                          .retain = wanted->retain,
                          .topics = topics,
                          .file = "acl.yaml",
                          .line = line};
  name_subject(&rule, wanted->who);
  while (rule.topic_count < MOST_TOPICS && wanted->topics[rule.topic_count]) {
    topics[rule.topic_count] = span_text(wanted->topics[rule.topic_count]);
    rule.topic_count++;
  }
  return acl_add(acl, &rule, error);
}

static struct acl *list_of(const struct short_rule *rules, size_t count)
{
  struct acl *acl;
  struct error error;
  assert_ok(acl_create(&acl));
  for (size_t i = 0; i < count; i++)
    if (add(acl, &rules[i], (uint32_t)i + 1, &error) != OK) fail_msg("rule %zu: %s", i + 1, error.text);
  assert_int_equal(acl_rule_count(acl), count);
  return acl;
}

#define LIST(...)                                                                                                           \
  list_of((const struct short_rule[]){__VA_ARGS__},                                                                         \
          sizeof((const struct short_rule[]){__VA_ARGS__}) / sizeof(struct short_rule))

static const struct span ann_groups[] = {{(const uint8_t *)"operators", 9}, {(const uint8_t *)"night", 5}};
static const struct identity_fact ann_facts[] = {
    {{(const uint8_t *)"cert.cn", 7}, {(const uint8_t *)"ann-laptop", 10}},
    {{(const uint8_t *)"cert.ou", 7}, {(const uint8_t *)"plant", 5}},
    {{(const uint8_t *)"jwt.site", 8}, {(const uint8_t *)"oslo", 4}},
    {{(const uint8_t *)"jwt.site", 8}, {(const uint8_t *)"bergen", 6}},
};

static const struct identity *ann(void)
{
  return identity_create(&(struct identity){.user = span_text("ann"),
                                            .method = "password",
                                            .listener = span_text("plant"),
                                            .groups = ann_groups,
                                            .group_count = 2,
                                            .facts = ann_facts,
                                            .fact_count = 4});
}

static struct acl_view *view_for(struct acl *acl, const struct identity *identity, const char *client_id)
{
  struct acl_view *view;
  assert_ok(acl_view_create(acl, identity, span_text(client_id), &view));
  return view;
}

static struct acl_decision ask_fully(struct acl_view *view, enum acl_verb verb, const char *topic, uint8_t qos, bool retain)
{
  struct acl_decision decision, again;
  const struct acl_request request = {
      .verb = verb, .topic = span_text(topic), .topic_hash = hash_span(1, span_text(topic)), .qos = qos, .retain = retain};
  acl_decide(view, &request, &decision);
  acl_decide(view, &request, &again);  // from the cache
  assert_int_equal(decision.allowed, again.allowed);
  assert_int_equal(decision.line, again.line);
  assert_int_equal(decision.qos_max, again.qos_max);
  return decision;
}

// The line that decides: negative when it denies, 0 when there is none.
static int ask(struct acl_view *view, enum acl_verb verb, const char *topic)
{
  struct acl_decision decision = ask_fully(view, verb, topic, 0, false);
  assert_int_equal(decision.matched, decision.line > 0);
  assert_true(decision.matched || !decision.allowed);
  if (decision.matched) assert_string_equal(decision.file, "acl.yaml");
  return decision.allowed ? (int)decision.line : -(int)decision.line;
}

// ---- Who

static void no_rule_is_a_denial(void **state)
{
  (void)state;
  struct acl *acl = LIST(ALLOW("user:bob", ALL, "#"));
  const struct identity *identity = ann();
  struct acl_view *view = view_for(acl, identity, "c");
  assert_int_equal(ask(view, PUB, "a"), 0);
  assert_int_equal(ask(view, SUB, "a"), 0);
  assert_int_equal(ask(view, REC, "a"), 0);
  assert_null(ask_fully(view, PUB, "a", 0, false).file);
  assert_false(acl_view_receives_all(view));
  acl_view_free(view);
  acl_view_free(NULL);
  identity_unref(identity);
  acl_unref(acl);
  acl_unref(NULL);
}

static void every_kind_of_subject_is_known(void **state)
{
  (void)state;
  struct acl *acl =
      LIST(ALLOW("user:ann", PUB, "user"), ALLOW("user:a*", PUB, "users"), ALLOW("user:*", PUB, "named"),
           ALLOW("group:night", PUB, "group"), ALLOW("group:oper*", PUB, "groups"), ALLOW("client:c1", PUB, "client"),
           ALLOW("client:?1", PUB, "clients"), ALLOW("cert.ou:plant", PUB, "fact"), ALLOW("cert.ou:*", PUB, "facts"),
           ALLOW("jwt.site:bergen", PUB, "second"), ALLOW("listener:plant", PUB, "listener"),
           ALLOW("listener:pl*t", PUB, "listeners"), ALLOW("*", PUB, "all"), ALLOW("anonymous", PUB, "anonymous"));
  const struct identity *identity = ann();
  struct acl_view *view = view_for(acl, identity, "c1");
  assert_int_equal(ask(view, PUB, "user"), 1);
  assert_int_equal(ask(view, PUB, "users"), 2);
  assert_int_equal(ask(view, PUB, "named"), 3);
  assert_int_equal(ask(view, PUB, "group"), 4);
  assert_int_equal(ask(view, PUB, "groups"), 5);
  assert_int_equal(ask(view, PUB, "client"), 6);
  assert_int_equal(ask(view, PUB, "clients"), 7);
  assert_int_equal(ask(view, PUB, "fact"), 8);
  assert_int_equal(ask(view, PUB, "facts"), 9);
  assert_int_equal(ask(view, PUB, "second"), 10);
  assert_int_equal(ask(view, PUB, "listener"), 11);
  assert_int_equal(ask(view, PUB, "listeners"), 12);
  assert_int_equal(ask(view, PUB, "all"), 13);
  assert_int_equal(ask(view, PUB, "anonymous"), 0);
  acl_view_free(view);
  identity_unref(identity);
  // Of somebody without a name only the client identifier counts.
  view = view_for(acl, NULL, "c1");
  static const char *const others[] = {"user", "users", "named",    "group",    "groups",
                                       "fact", "facts", "listener", "listeners"};
  for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) assert_int_equal(ask(view, PUB, others[i]), 0);
  assert_int_equal(ask(view, PUB, "client"), 6);
  assert_int_equal(ask(view, PUB, "all"), 13);
  assert_int_equal(ask(view, PUB, "anonymous"), 14);
  acl_view_free(view);
  acl_unref(acl);
}

static void patterns_of_names(void **state)
{
  (void)state;
  static const struct {
    const char *pattern, *matches[3], *others[4];
  } cases[] = {
      {"sensor-*", {"sensor-", "sensor-1", "sensor-a-b"}, {"sensor", "xsensor-1", "Sensor-1"}},
      {"*-7", {"-7", "a-7", "-7-7"}, {"7", "a-71"}},
      {"a*b*c", {"abc", "axxbxxc", "abbc"}, {"ab", "abcx", "acb"}},
      {"??", {"ab", "\xc3\xa9x"}, {"a", "abc"}},  // one character each, whatever its bytes
      {"a\\*", {"a*"}, {"ab", "a\\*"}},           // the star itself
      {"\\?*", {"?", "?x"}, {"x"}},
      {"a\\\\*", {"a\\", "a\\x"}, {"a", "ab"}},
      {"**", {"", "a"}, {NULL}},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    char who[40];
    snprintf(who, sizeof who, "client:%s", cases[i].pattern);
    struct acl *acl = list_of(&(struct short_rule)ALLOW(who, PUB, "t"), 1);
    for (size_t k = 0; k < 4; k++) {
      const char *ids[] = {k < 3 ? cases[i].matches[k] : NULL, cases[i].others[k]};
      for (int other = 0; other < 2; other++) {
        if (!ids[other]) continue;
        struct acl_view *view = view_for(acl, NULL, ids[other]);
        if (ask(view, PUB, "t") != !other) fail_msg("%s and \"%s\"", cases[i].pattern, ids[other]);
        acl_view_free(view);
      }
    }
    acl_unref(acl);
  }
}

static void escapes_and_plain_names_are_one_subject(void **state)
{
  (void)state;
  struct acl *acl = LIST(ALLOW("client:a\\b", PUB, "one"), ALLOW("client:ab", PUB, "two"));
  struct acl_view *view = view_for(acl, NULL, "ab");
  assert_int_equal(ask(view, PUB, "one"), 1);
  assert_int_equal(ask(view, PUB, "two"), 2);
  acl_view_free(view);
  acl_unref(acl);
}

// ---- Order, verbs, QoS, RETAIN

static void the_first_that_matches_decides(void **state)
{
  (void)state;
  struct acl *acl = LIST(ALLOW("user:ann", PUB, "alarm/test"), DENY("*", PUB, "alarm/#"), ALLOW("user:ann", ALL, "#"),
                         DENY("*", PUB, "#"));
  const struct identity *identity = ann();
  struct acl_view *view = view_for(acl, identity, "c");
  assert_int_equal(ask(view, PUB, "alarm/test"), 1);
  assert_int_equal(ask(view, PUB, "alarm/fire"), -2);
  assert_int_equal(ask(view, PUB, "alarm"), -2);
  assert_int_equal(ask(view, PUB, "line"), 3);
  assert_int_equal(ask(view, REC, "alarm/fire"), 3);
  assert_true(acl_view_receives_all(view));
  acl_view_free(view);
  identity_unref(identity);
  view = view_for(acl, NULL, "c");
  assert_int_equal(ask(view, PUB, "line"), -4);
  acl_view_free(view);
  acl_unref(acl);
}

static void a_rule_has_its_verbs_only(void **state)
{
  (void)state;
  struct acl *acl = LIST(ALLOW("*", PUB, "p"), ALLOW("*", SUB, "s"), ALLOW("*", REC, "r"), ALLOW("*", PUB | REC, "pr"));
  struct acl_view *view = view_for(acl, NULL, "c");
  static const char *const topics[] = {"p", "s", "r", "pr"};
  static const int expected[][3] = {{1, 0, 0}, {0, 2, 0}, {0, 0, 3}, {4, 0, 4}};
  for (size_t i = 0; i < 4; i++) {
    assert_int_equal(ask(view, PUB, topics[i]), expected[i][0]);
    assert_int_equal(ask(view, SUB, topics[i]), expected[i][1]);
    assert_int_equal(ask(view, REC, topics[i]), expected[i][2]);
  }
  acl_view_free(view);
  acl_unref(acl);
}

static void quality_and_retain_are_limited(void **state)
{
  (void)state;
  struct acl *acl = LIST({.who = "*", .allow = true, .verbs = PUB | SUB, .topics = {"one"}, .limited = true, .qos_max = 1},
                         {.who = "*", .allow = true, .verbs = PUB, .topics = {"one"}, .retain = ACL_RETAIN_ONLY},
                         {.who = "*", .allow = true, .verbs = PUB, .topics = {"never"}, .retain = ACL_RETAIN_NEVER},
                         {.who = "*", .allow = false, .verbs = PUB, .topics = {"both"}, .retain = ACL_RETAIN_ONLY},
                         ALLOW("*", PUB, "both"));
  struct acl_view *view = view_for(acl, NULL, "c");
  assert_int_equal(ask_fully(view, PUB, "one", 0, false).line, 1);
  assert_int_equal(ask_fully(view, PUB, "one", 1, true).line, 1);
  assert_int_equal(ask_fully(view, PUB, "one", 2, false).line, 0);
  assert_int_equal(ask_fully(view, PUB, "one", 2, true).line, 2);
  assert_true(ask_fully(view, PUB, "never", 2, false).allowed);
  assert_false(ask_fully(view, PUB, "never", 2, true).matched);
  assert_int_equal(ask_fully(view, PUB, "both", 0, true).line, 4);
  assert_int_equal(ask_fully(view, PUB, "both", 0, false).line, 5);
  struct acl_decision decision = ask_fully(view, SUB, "one", 2, false);
  assert_true(decision.allowed);
  assert_int_equal(decision.qos_max, 1);
  acl_view_free(view);
  acl_unref(acl);
}

// ---- Topics

static void names_match_as_mqtt_says(void **state)
{
  (void)state;
  struct acl *acl = LIST(ALLOW("*", PUB, "a/+/c"), ALLOW("*", PUB, "b/#"), ALLOW("*", PUB, "+"), ALLOW("*", PUB, "/+/"),
                         ALLOW("*", PUB, "$SYS/#"), ALLOW("*", PUB, "#"));
  struct acl_view *view = view_for(acl, NULL, "c");
  assert_int_equal(ask(view, PUB, "a/b/c"), 1);
  assert_int_equal(ask(view, PUB, "a//c"), 1);
  assert_int_equal(ask(view, PUB, "a/b/c/d"), 6);
  assert_int_equal(ask(view, PUB, "b"), 2);
  assert_int_equal(ask(view, PUB, "b/x/y"), 2);
  assert_int_equal(ask(view, PUB, "x"), 3);
  assert_int_equal(ask(view, PUB, "/x/"), 4);
  assert_int_equal(ask(view, PUB, "$SYS"), 5);
  assert_int_equal(ask(view, PUB, "$SYS/x"), 5);
  assert_int_equal(ask(view, PUB, "$x"), 0);  // no wildcard opens what begins with '$' [MQTT-4.7.2-1]
  acl_view_free(view);
  acl_unref(acl);
}

static void the_brokers_topics_are_closed(void **state)
{
  (void)state;
  struct acl *acl = LIST(ALLOW("*", ALL, "#", "+/+/#", "{client_id}/#"), ALLOW("client:$SYS", ALL, "$S{client_id}/#"));
  struct acl_view *view = view_for(acl, NULL, "$SYS");  // not by a name either
  static const char *const topics[] = {"$SYS/x", "$skerry/x", "$SYS", "$skerry"};
  for (size_t i = 0; i < 4; i++)
    for (enum acl_verb verb = PUB; verb <= REC; verb = (enum acl_verb)(verb << 1))
      assert_int_equal(ask(view, verb, topics[i]), 0);
  assert_int_equal(ask(view, SUB, "$SYS/#"), 0);
  assert_int_equal(ask(view, PUB, "$S$SYS/x"), 2);  // what the rule itself says
  assert_true(acl_view_receives_all(view));
  acl_view_free(view);
  acl_unref(acl);
}

static void variables_are_the_clients_own(void **state)
{
  (void)state;
  struct acl *acl =
      LIST(ALLOW("*", PUB, "raw/{client_id}/#"), ALLOW("*", PUB, "home/u-{username}-x"),
           ALLOW("*", PUB, "{cert.cn}/{cert.ou}"), ALLOW("*", PUB, "site/{jwt.site}/+"), ALLOW("*", PUB, "{{{client_id}}}"),
           ALLOW("*", PUB, "{client_id}{username}"), ALLOW("*", PUB, "x/{jwt.other}"));
  const struct identity *identity = ann();
  struct acl_view *view = view_for(acl, identity, "c1");
  assert_int_equal(ask(view, PUB, "raw/c1"), 1);
  assert_int_equal(ask(view, PUB, "raw/c1/a/b"), 1);
  assert_int_equal(ask(view, PUB, "raw/c2"), 0);
  assert_int_equal(ask(view, PUB, "raw/c11"), 0);
  assert_int_equal(ask(view, PUB, "raw/{client_id}/x"), 0);
  assert_int_equal(ask(view, PUB, "home/u-ann-x"), 2);
  assert_int_equal(ask(view, PUB, "home/u-bob-x"), 0);
  assert_int_equal(ask(view, PUB, "ann-laptop/plant"), 3);
  assert_int_equal(ask(view, PUB, "site/oslo/a"), 4);
  assert_int_equal(ask(view, PUB, "site/bergen/a"), 4);
  assert_int_equal(ask(view, PUB, "site/rome/a"), 0);
  assert_int_equal(ask(view, PUB, "{c1}"), 5);
  assert_int_equal(ask(view, PUB, "c1ann"), 6);
  assert_int_equal(ask(view, PUB, "x/"), 0);
  acl_view_free(view);
  identity_unref(identity);
  view = view_for(acl, NULL, "c1");
  assert_int_equal(ask(view, PUB, "home/u--x"), 0);  // nobody's name is empty
  assert_int_equal(ask(view, PUB, "c1"), 0);
  acl_view_free(view);
  acl_unref(acl);
}

static void names_with_meaning_match_nothing(void **state)
{
  (void)state;
  struct acl *acl = LIST(ALLOW("*", ALL, "raw/{client_id}/x"), ALLOW("*", ALL, "user/{username}"));
  static const char *const ids[] = {"+", "#", "a/b", "a+", "a#"};
  static const char *const topics[] = {"raw/+/x", "raw/#", "raw/a/b/x", "raw/other/x"};
  for (size_t i = 0; i < 5; i++) {
    const struct identity *identity = identity_create(&(struct identity){.user = span_text(ids[i])});
    struct acl_view *view = view_for(acl, identity, ids[i]);
    for (size_t k = 0; k < 4; k++) assert_int_equal(ask(view, SUB, topics[k]), 0);
    assert_int_equal(ask(view, PUB, "raw/other/x"), 0);
    assert_int_equal(ask(view, PUB, "raw/a/b/x"), 0);
    assert_int_equal(ask(view, SUB, "user/+"), 0);
    assert_int_equal(ask(view, SUB, "user/#"), 0);
    assert_int_equal(ask(view, PUB, "user/a/b"), 0);
    acl_view_free(view);
    identity_unref(identity);
  }
  acl_unref(acl);
}

static void a_subscription_has_to_be_covered(void **state)
{
  (void)state;
  struct acl *acl = LIST(ALLOW("*", SUB, "a/#", "b/+/c", "d"), ALLOW("*", SUB, "raw/{client_id}/#"));
  struct acl_view *view = view_for(acl, NULL, "c1");
  static const char *const covered[] = {"a", "a/#", "a/+/b", "a/+", "b/+/c", "b/x/c", "d", "raw/c1/#", "raw/c1/x/+"};
  static const char *const others[] = {"#",   "+", "+/x",     "b/#",   "b/+/+",   "b/+/c/#",
                                       "d/#", "c", "raw/+/#", "raw/#", "raw/c2/#"};
  for (size_t i = 0; i < sizeof covered / sizeof covered[0]; i++)
    if (ask(view, SUB, covered[i]) <= 0) fail_msg("%s is not covered", covered[i]);
  for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
    if (ask(view, SUB, others[i]) != 0) fail_msg("%s is covered", others[i]);
  acl_view_free(view);
  acl_unref(acl);
}

static void nobody_gets_round_a_denial_with_a_wider_filter(void **state)
{
  (void)state;
  struct acl *acl = LIST(ALLOW("*", SUB, "secret/public"), DENY("*", SUB, "secret/#", "x/+/z", "$SYS/a"),
                         DENY("*", SUB, "own/{client_id}"), ALLOW("*", SUB, "#", "$SYS/#"));
  struct acl_view *view = view_for(acl, NULL, "c1");
  static const char *const denied[] = {"#",     "+/#",     "secret/#", "secret",   "secret/+", "+/public", "+",
                                       "x/#",   "x/+/+/#", "x/y/+",    "+/y/z",    "$SYS/#",   "$SYS/+",   "$SYS/a",
                                       "x/y/z", "own/#",   "own/+",    "own/c1/#", "+/c1"};
  static const char *const allowed[] = {"x/+", "y/+/w", "y/#", "x", "$SYS/b", "own/c2", "own/c1/+", "own"};
  for (size_t i = 0; i < sizeof denied / sizeof denied[0]; i++)
    if (ask(view, SUB, denied[i]) >= 0) fail_msg("%s is not denied", denied[i]);
  for (size_t i = 0; i < sizeof allowed / sizeof allowed[0]; i++)
    if (ask(view, SUB, allowed[i]) != 4) fail_msg("%s is denied", allowed[i]);
  assert_int_equal(ask(view, SUB, "secret/public"), 1);
  acl_view_free(view);
  acl_unref(acl);
}

static void who_receives_all_need_not_be_asked(void **state)
{
  (void)state;
  static const struct {
    struct short_rule rules[3];
    size_t count;
    bool all;
  } cases[] = {
      {{ALLOW("*", REC, "#")}, 1, true},
      {{ALLOW("*", SUB, "#")}, 1, false},
      {{ALLOW("*", REC, "a", "#"), DENY("*", REC, "a")}, 2, true},
      {{DENY("*", REC, "a"), ALLOW("*", REC, "#")}, 2, false},
      {{DENY("client:d", REC, "a"), ALLOW("*", REC, "#")}, 2, true},
      {{DENY("client:?", REC, "a"), ALLOW("*", REC, "#")}, 2, false},
      {{DENY("*", PUB | SUB, "a"), ALLOW("*", REC, "#")}, 2, true},
      {{ALLOW("*", REC, "+/#", "+")}, 1, false},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    struct acl *acl = list_of(cases[i].rules, cases[i].count);
    struct acl_view *view = view_for(acl, NULL, "c");
    if (acl_view_receives_all(view) != cases[i].all) fail_msg("case %zu", i);
    acl_view_free(view);
    acl_unref(acl);
  }
}

static void a_list_on_trial_only_reports(void **state)
{
  (void)state;
  struct acl *acl = LIST(ALLOW("*", ALL, "#"), ALLOW("*", PUB, "$x"));
  struct acl *trial = LIST(ALLOW("*", ALL, "a"), DENY("*", PUB, "b"));
  acl_set_shadow(acl, trial);
  struct acl_view *view = view_for(acl, NULL, "c");
  struct acl_decision decision = ask_fully(view, PUB, "a", 0, false);
  assert_true(decision.allowed);
  assert_false(decision.shadow_denies);
  decision = ask_fully(view, PUB, "b", 0, false);
  assert_true(decision.allowed);
  assert_true(decision.shadow_denies);
  assert_int_equal(decision.shadow_line, 2);
  assert_string_equal(decision.shadow_file, "acl.yaml");
  decision = ask_fully(view, PUB, "c", 0, false);
  assert_true(decision.shadow_denies);
  assert_null(decision.shadow_file);
  assert_false(acl_view_receives_all(view));  // or the trial would see nothing
  acl_view_free(view);
  acl_set_shadow(acl, NULL);
  view = view_for(acl, NULL, "c");
  assert_false(ask_fully(view, PUB, "c", 0, false).shadow_denies);
  acl_view_free(view);
  acl_unref(acl);
}

// ---- Mistakes

static void wrong_rules_are_refused_with_words(void **state)
{
  (void)state;
  static const struct {
    struct short_rule rule;
    const char *words;
  } cases[] = {
      {ALLOW("*", PUB, "a/#/b"), "no topic filter"},
      {ALLOW("*", PUB, "a+"), "no topic filter"},
      {ALLOW("*", PUB, ""), "empty"},
      {ALLOW("*", PUB, "\xff"), "no text"},
      {ALLOW("*", PUB, "$share/g/a"), "without $share/g/"},
      {ALLOW("*", PUB, "{clientid}"), "did you mean {client_id}"},
      {ALLOW("*", PUB, "a/{username}/{cert.}"), "did you mean"},
      {ALLOW("*", PUB, "a/{xyzzy}"), "{cert.FIELD}"},
      {ALLOW("*", PUB, "a/{client_id"), "brace"},
      {ALLOW("*", PUB, "a/{client/id}"), "brace"},
      {ALLOW("*", PUB, "a}"), "brace"},
      {ALLOW("*", PUB, NULL), "no topics"},
      {ALLOW("*", 0, "a"), "no verb"},
      {ALLOW("user:", PUB, "a"), "nobody"},
      {ALLOW(":x", PUB, "a"), "no attribute"},
      {{.who = "*", .allow = true, .verbs = PUB, .topics = {"a"}, .limited = true, .qos_max = 3}, "qos_max"},
  };
  struct acl *acl;
  struct error error;
  assert_ok(acl_create(&acl));
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    assert_int_equal(add(acl, &cases[i].rule, 1, &error), ERR_INVALID);
    if (!strstr(error.text, cases[i].words)) fail_msg("case %zu: %s", i, error.text);
  }
  char deep[400];
  memset(deep, '/', sizeof deep);
  deep[128] = '\0';
  assert_int_equal(add(acl, &(struct short_rule)ALLOW("*", PUB, deep), 1, &error), ERR_INVALID);
  deep[127] = '\0';
  assert_ok(add(acl, &(struct short_rule)ALLOW("*", PUB, deep), 1, &error));
  assert_int_equal(acl_rule_count(acl), 1);
  acl_unref(acl);
}

// ---- Compared with a plain walk

struct plain_client {
  const char *user, *id;
  const char *site[2];  // values of {jwt.site}
};

static bool plain_who(const char *who, const struct plain_client *client)
{
  if (strcmp(who, "*") == 0) return true;
  if (strcmp(who, "anonymous") == 0) return !client->user;
  if (strcmp(who, "user:*") == 0) return client->user != NULL;
  if (strncmp(who, "user:", 5) == 0) return client->user && strcmp(who + 5, client->user) == 0;
  if (strcmp(who, "client:c?") == 0) return strlen(client->id) == 2 && client->id[0] == 'c';
  if (strncmp(who, "client:", 7) == 0) return strcmp(who + 7, client->id) == 0;
  assert_true(strncmp(who, "jwt.site:", 9) == 0);
  return (client->site[0] && strcmp(client->site[0], who + 9) == 0) ||
         (client->site[1] && strcmp(client->site[1], who + 9) == 0);
}

// The filter with its variables replaced; false: there is no value. `pick`: which value of the site, a bit for each time.
static bool plain_expand(const char *filter, const struct plain_client *client, unsigned pick, char out[200],
                         bool *out_hidden)
{
  *out_hidden = *filter == '{' || *filter == '+' || *filter == '#';
  size_t size = 0;
  while (*filter) {
    const char *value = NULL;
    if (*filter != '{') {
      out[size++] = *filter++;
      continue;
    }
    if (strncmp(filter, "{client_id}", 11) == 0) value = client->id;
    if (strncmp(filter, "{username}", 10) == 0) value = client->user;
    if (strncmp(filter, "{jwt.site}", 10) == 0) {
      value = client->site[pick & 1];
      pick >>= 1;
    }
    if (!value || strpbrk(value, "+#/")) return false;
    size += (size_t)snprintf(out + size, 200 - size, "%s", value);
    filter = strchr(filter, '}') + 1;
  }
  out[size] = '\0';
  return true;
}

static const char *next(const char *text)
{
  const char *slash = strchr(text, '/');
  return slash ? slash + 1 : NULL;
}

static bool level_is(const char *text, const char *level)
{
  size_t size = strcspn(text, "/");
  return size == strlen(level) && memcmp(text, level, size) == 0;
}

static bool same_level(const char *a, const char *b)
{
  size_t size = strcspn(a, "/");
  return size == strcspn(b, "/") && memcmp(a, b, size) == 0;
}

static bool plain_covers(const char *rule, const char *filter)
{
  if (rule && level_is(rule, "#")) return true;
  if (!rule || !filter) return !filter && !rule;
  if (level_is(filter, "#")) return false;
  if (!level_is(rule, "+") && (level_is(filter, "+") || !same_level(rule, filter))) return false;
  const char *rest = next(rule);
  if (rest && level_is(rest, "#")) return true;
  return plain_covers(rest, next(filter));
}

static bool plain_overlaps(const char *a, const char *b)
{
  if ((a && level_is(a, "#")) || (b && level_is(b, "#"))) return true;
  if (!a || !b) return !a && !b;
  bool wild = level_is(a, "+") || level_is(b, "+");
  if (!wild && !same_level(a, b)) return false;
  return plain_overlaps(next(a), next(b));
}

static bool wildcard_first(const char *filter)
{
  return *filter == '+' || *filter == '#';
}

static bool plain_topic(const struct short_rule *rule, const char *filter, bool hidden, enum acl_verb verb,
                        const char *topic)
{
  if (hidden && *topic == '$') return false;
  if (verb != SUB) return mqtt_filter_matches(span_text(filter), span_text(topic));
  if (wildcard_first(topic) && *filter == '$') return false;
  return rule->allow ? plain_covers(filter, topic) : plain_overlaps(filter, topic);
}

static int plain_walk(const struct short_rule *rules, size_t count, const struct plain_client *client, enum acl_verb verb,
                      const char *topic, uint8_t qos, bool retain)
{
  for (size_t i = 0; i < count; i++) {
    const struct short_rule *rule = &rules[i];
    if (!(rule->verbs & verb) || !plain_who(rule->who, client)) continue;
    if (verb == PUB && rule->allow && rule->limited && qos > rule->qos_max) continue;
    if (verb == PUB && rule->retain == ACL_RETAIN_ONLY && !retain) continue;
    if (verb == PUB && rule->retain == ACL_RETAIN_NEVER && retain) continue;
    for (size_t k = 0; k < MOST_TOPICS && rule->topics[k]; k++)
      for (unsigned pick = 0; pick < 16; pick++) {
        char filter[200];
        bool hidden;
        if (!plain_expand(rule->topics[k], client, pick, filter, &hidden)) continue;
        if (plain_topic(rule, filter, hidden, verb, topic)) return rule->allow ? (int)i + 1 : -(int)i - 1;
      }
  }
  return 0;
}

static const char *pick_text(struct prng *prng, const char *const *texts, size_t count)
{
  return texts[prng_below(prng, (uint32_t)count)];
}

#define PICK(prng, texts) pick_text(prng, texts, sizeof(texts) / sizeof(texts)[0])

static void make_filter(struct prng *prng, bool rule, char out[100])
{
  static const char *const levels[] = {"a", "b", "a", "b", "", "+", "+", "$a", "c1", "ann"};
  static const char *const variables[] = {"{client_id}", "{username}", "{jwt.site}", "a{client_id}", "{jwt.site}{username}"};
  out[0] = '\0';
  uint32_t count = 1 + (uint32_t)prng_below(prng, 4);
  for (uint32_t i = 0; i < count; i++) {
    if (i > 0) strcat(out, "/");
    if (i > 0 && i + 1 == count && prng_below(prng, 3) == 0)
      strcat(out, "#");
    else
      strcat(out, rule && prng_below(prng, 5) == 0 ? PICK(prng, variables) : PICK(prng, levels));
  }
  if (out[0] == '\0' || prng_below(prng, 20) == 0) strcpy(out, "#");
}

static void agrees_with_a_plain_walk(void **state)
{
  (void)state;
  enum { ROUNDS = 300, RULES = 24, QUESTIONS = 60 };
  static const char *const whos[] = {"*", "*", "anonymous", "user:ann", "user:*", "client:c1", "client:c?", "jwt.site:b"};
  static const struct plain_client clients[] = {{"ann", "c1", {"a", "b"}},
                                                {NULL, "c1", {NULL, NULL}},
                                                {"bob", "x", {"b", NULL}},
                                                {"$a", "$a", {"$a", NULL}},
                                                {"a/b", "+", {"#", "a+b"}}};
  struct prng prng;
  prng_seed(&prng, 42);
  unsigned outcomes[3] = {0};
  for (unsigned round = 0; round < ROUNDS; round++) {
    struct short_rule rules[RULES];
    static char texts[RULES][2][100];
    for (size_t i = 0; i < RULES; i++) {
      make_filter(&prng, true, texts[i][0]);
      make_filter(&prng, true, texts[i][1]);
      bool allow = prng_below(&prng, 3) > 0;
      rules[i] = (struct short_rule){.who = PICK(&prng, whos),
                                     .allow = allow,
                                     .verbs = (uint8_t)(1 + prng_below(&prng, 7)),
                                     .topics = {texts[i][0], prng_below(&prng, 2) ? texts[i][1] : NULL},
                                     .limited = prng_below(&prng, 4) == 0,
                                     .qos_max = (uint8_t)prng_below(&prng, 3),
                                     .retain = (enum acl_retain)(prng_below(&prng, 5) % 3)};
    }
    size_t count = 1 + prng_below(&prng, RULES);
    struct acl *acl = list_of(rules, count);
    for (size_t c = 0; c < sizeof clients / sizeof clients[0]; c++) {
      const struct plain_client *client = &clients[c];
      struct identity_fact sites[2];
      size_t site_count = 0;
      for (size_t i = 0; i < 2; i++)
        if (client->site[i])
          sites[site_count++] = (struct identity_fact){.name = span_text("jwt.site"), .value = span_text(client->site[i])};
      const struct identity *identity = identity_create(
          &(struct identity){.user = span_text(client->user ? client->user : ""), .facts = sites, .fact_count = site_count});
      struct acl_view *view = view_for(acl, identity, client->id);
      identity_unref(identity);
      for (unsigned i = 0; i < QUESTIONS; i++) {
        char topic[100];
        make_filter(&prng, false, topic);
        enum acl_verb verb = (enum acl_verb)(1u << prng_below(&prng, 3));
        if (verb != SUB && strpbrk(topic, "+#")) verb = SUB;
        uint8_t qos = verb == PUB ? (uint8_t)prng_below(&prng, 3) : 0;
        bool retain = verb == PUB && prng_below(&prng, 2);
        int expected = plain_walk(rules, count, client, verb, topic, qos, retain);
        struct acl_decision decision = ask_fully(view, verb, topic, qos, retain);
        int found = decision.allowed ? (int)decision.line : -(int)decision.line;
        if (found != expected)
          fail_msg("round %u, %s %s: rule %d, and by walking %d (%s %s)", round, acl_verb_name(verb), topic, found, expected,
                   found ? rules[abs(found) - 1].topics[0] : "none", client->id);
        outcomes[expected > 0 ? 0 : expected < 0 ? 1 : 2]++;
      }
      acl_view_free(view);
    }
    acl_unref(acl);
  }
  for (size_t i = 0; i < 3; i++) assert_true(outcomes[i] > ROUNDS * QUESTIONS / 4);
}

// ---- Limits

static void the_cache_is_bounded_and_never_wrong(void **state)
{
  (void)state;
  struct acl *acl = LIST(ALLOW("*", PUB, "t/1/#"), DENY("*", PUB, "t/2/#"), ALLOW("*", PUB, "t/+/x"));
  struct acl_view *view = view_for(acl, NULL, "c");
  size_t most = 0;
  for (unsigned i = 0; i < 5000; i++) {
    char topic[64];
    snprintf(topic, sizeof topic, "t/%u/%s", i % 4, i % 3 ? "x" : "y");
    if (i % 2) snprintf(topic, sizeof topic, "t/%u/%u", i % 4, i);
    const struct acl_request request = {
        .verb = PUB, .topic = span_text(topic), .topic_hash = i % 5 ? hash_span(1, span_text(topic)) : 7};  // collisions
    struct acl_decision decision;
    acl_decide(view, &request, &decision);
    unsigned place = i % 4;
    uint32_t line = place == 1 ? 1 : place == 2 ? 2 : i % 2 == 0 && i % 3 ? 3 : 0;
    assert_int_equal(decision.line, line);
    if (acl_view_bytes(view) > most) most = acl_view_bytes(view);
  }
  assert_true(most > 1000);
  assert_true(most < 8000);
  // What is too long to be kept is decided all the same.
  char long_topic[400];
  memset(long_topic, 'x', sizeof long_topic);
  memcpy(long_topic, "t/1/", 4);
  long_topic[sizeof long_topic - 1] = '\0';
  size_t before = acl_view_bytes(view);
  assert_int_equal(ask(view, PUB, long_topic), 1);
  assert_int_equal(acl_view_bytes(view), before);
  acl_view_free(view);
  acl_unref(acl);
}

static void ten_thousand_rules_cost_a_client_nothing(void **state)
{
  (void)state;
  struct acl *acl;
  struct error error;
  assert_ok(acl_create(&acl));
  for (unsigned i = 0; i < 10000; i++) {
    char who[32], topic[48];
    snprintf(who, sizeof who, i % 2 ? "user:u%u" : "*", i);
    snprintf(topic, sizeof topic, "line/%u/%s/#", i, i % 10 ? "x" : "{client_id}");
    assert_ok(add(acl, &(struct short_rule)ALLOW(who, ALL, topic), i + 1, &error));
  }
  const struct identity *identity = identity_create(&(struct identity){.user = span_text("u77")});
  struct acl_view *view = view_for(acl, identity, "c");
  assert_true(acl_view_bytes(view) < 300);
  assert_int_equal(ask(view, PUB, "line/77/x/y"), 78);
  assert_int_equal(ask(view, PUB, "line/78/x/y"), 79);
  assert_int_equal(ask(view, PUB, "line/79/x/y"), 0);
  assert_int_equal(ask(view, PUB, "line/20/c"), 21);
  acl_view_free(view);
  identity_unref(identity);
  acl_unref(acl);
}

// What a decision costs is for bench/acl.c to say; here, that the list is walked once for each question and not again.
static size_t walks;

uint32_t __real_acl_topic_find(const struct acl *acl, const struct acl_node *root, const struct acl_values *values,
                               const struct acl_request *request, uint32_t best);
uint32_t __wrap_acl_topic_find(const struct acl *acl, const struct acl_node *root, const struct acl_values *values,
                               const struct acl_request *request, uint32_t best);

uint32_t __wrap_acl_topic_find(const struct acl *acl, const struct acl_node *root, const struct acl_values *values,
                               const struct acl_request *request, uint32_t best)
{
  walks++;
  return __real_acl_topic_find(acl, root, values, request, best);
}

static void what_was_decided_is_not_looked_up_again(void **state)
{
  (void)state;
  enum { RULES = 10000, ROUNDS = 50, SETTLED = 1, TOPICS = 8 };
  struct acl *acl;
  struct error error;
  assert_ok(acl_create(&acl));
  for (unsigned i = 0; i < RULES; i++) {
    char topic[48];
    snprintf(topic, sizeof topic, "plant/line/%u/#", i);
    assert_ok(add(acl, &(struct short_rule)ALLOW("*", ALL, topic), i + 1, &error));
  }
  struct acl_view *view = view_for(acl, NULL, "c");
  walks = 0;
  for (unsigned round = 0; round < ROUNDS; round++) {
    for (unsigned i = 0; i < TOPICS; i++) {
      char topic[48];
      snprintf(topic, sizeof topic, "plant/line/%u/sensor/temperature", i * 1000);
      assert_int_equal(ask(view, PUB, topic), i * 1000 + 1);
    }
    if (round == SETTLED) {  // two topics may have been in each other's way before there were more places
      assert_in_range(walks, TOPICS, 2 * TOPICS);
      walks = 0;
    }
  }
  assert_int_equal(walks, 0);
  // Another verb is another question.
  assert_int_equal(ask(view, SUB, "plant/line/0/sensor/temperature"), 1);
  assert_int_equal(walks, 1);
  acl_view_free(view);
  acl_unref(acl);
}

static void a_view_keeps_its_list(void **state)
{
  (void)state;
  struct acl *acl = LIST(ALLOW("*", ALL, "a"));
  struct acl_view *view = view_for(acl, NULL, "c");
  assert_ptr_equal(acl_view_list(view), acl);
  acl_unref(acl);
  assert_int_equal(ask(view, PUB, "a"), 1);
  acl_view_free(view);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(no_rule_is_a_denial),
      cmocka_unit_test(every_kind_of_subject_is_known),
      cmocka_unit_test(patterns_of_names),
      cmocka_unit_test(escapes_and_plain_names_are_one_subject),
      cmocka_unit_test(the_first_that_matches_decides),
      cmocka_unit_test(a_rule_has_its_verbs_only),
      cmocka_unit_test(quality_and_retain_are_limited),
      cmocka_unit_test(names_match_as_mqtt_says),
      cmocka_unit_test(the_brokers_topics_are_closed),
      cmocka_unit_test(variables_are_the_clients_own),
      cmocka_unit_test(names_with_meaning_match_nothing),
      cmocka_unit_test(a_subscription_has_to_be_covered),
      cmocka_unit_test(nobody_gets_round_a_denial_with_a_wider_filter),
      cmocka_unit_test(who_receives_all_need_not_be_asked),
      cmocka_unit_test(a_list_on_trial_only_reports),
      cmocka_unit_test(wrong_rules_are_refused_with_words),
      cmocka_unit_test(agrees_with_a_plain_walk),
      cmocka_unit_test(the_cache_is_bounded_and_never_wrong),
      cmocka_unit_test(ten_thousand_rules_cost_a_client_nothing),
      cmocka_unit_test(what_was_decided_is_not_looked_up_again),
      cmocka_unit_test(a_view_keeps_its_list),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
