// Access control lists from files: what they mean, and what is said about those that mean nothing.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "auth/acl_file.h"
#include "base/hash.h"

static void free_problems(char **problems, size_t count)
{
  for (size_t i = 0; i < count; i++) free(problems[i]);
  free(problems);
}

static struct acl *parse(const char *text)
{
  struct acl *acl;
  char **problems;
  size_t count;
  enum status status = acl_file_parse(span_text(text), "acl", &acl, &problems, &count);
  if (status != OK) fail_msg("%s", count ? problems[0] : status_name(status));
  assert_int_equal(count, 0);
  assert_null(problems);
  return acl;
}

// All of these are said, in this order, and nothing else.
static void complains(const char *text, const char *const *expected, size_t expected_count)
{
  struct acl *acl = NULL;
  char **problems;
  size_t count;
  assert_int_equal(acl_file_parse(span_text(text), "acl", &acl, &problems, &count), ERR_INVALID);
  assert_null(acl);
  for (size_t i = 0; i < count || i < expected_count; i++) {
    if (i >= expected_count) fail_msg("not expected: %s", problems[i]);
    if (i >= count) fail_msg("not said: %s", expected[i]);
    if (strcmp(problems[i], expected[i]) != 0) fail_msg("\"%s\" instead of \"%s\"", problems[i], expected[i]);
  }
  free_problems(problems, count);
}

#define COMPLAINS(text, ...)                                                                                                \
  complains(text, (const char *const[]){__VA_ARGS__}, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

struct person {
  const char *user, *id;
};

// The line that decides, negative when it denies; 0: none.
static int ask(struct acl *acl, struct person person, enum acl_verb verb, const char *topic, uint8_t qos, bool retain)
{
  static const struct span groups[] = {{(const uint8_t *)"operators", 9}};
  static const struct identity_fact facts[] = {{{(const uint8_t *)"cert.ou", 7}, {(const uint8_t *)"plant", 5}},
                                               {{(const uint8_t *)"jwt.role", 8}, {(const uint8_t *)"admin", 5}}};
  const struct identity parts = {.user = span_text(person.user ? person.user : ""),
                                 .listener = span_text("mqtts://0.0.0.0:8883"),
                                 .groups = groups,
                                 .group_count = 1,
                                 .facts = facts,
                                 .fact_count = 2};
  const struct identity *identity = person.user ? identity_create(&parts) : NULL;
  struct acl_view *view;
  assert_int_equal(acl_view_create(acl, identity, span_text(person.id), &view), OK);
  struct acl_decision decision;
  const struct acl_request request = {
      .verb = verb, .topic = span_text(topic), .topic_hash = hash_span(1, span_text(topic)), .qos = qos, .retain = retain};
  acl_decide(view, &request, &decision);
  int line = decision.matched && decision.line == 0 ? 9999 : (int)decision.line;
  acl_view_free(view);
  identity_unref(identity);
  return decision.allowed ? line : -line;
}

static const struct person ann = {"ann", "c1"}, nobody = {NULL, "c1"};

// ---- Our own form

static void the_lists_of_the_manual_are_read(void **state)
{
  (void)state;
  struct acl *acl = parse("# who may do what\n"
                          "- {who: \"user:ann\", allow: [publish, subscribe, receive], topics: [\"line/7/#\"]}\n"
                          "- {who: \"client:sensor-*\", allow: [publish], topics: [\"raw/{client_id}/#\"], qos_max: 1}\n"
                          "- {who: \"*\", deny: [publish], topics: [\"alarm/#\"]}\n"
                          "- who: cert.ou:plant\n"
                          "  allow: publish\n"
                          "  topics: alarm/test\n"
                          "  retain: never\n"
                          "- who: group:operators\n"
                          "  allow: [receive, subscribe]\n"
                          "  topics:\n"
                          "    - shift/#\n"
                          "    - \"$SYS/#\"\n"
                          "- {who: jwt.role:admin, allow: [publish], topics: [admin]}\n"
                          "- {who: 'listener:mqtts://*', allow: [publish], topics: [outside]}\n"
                          "- {who: anonymous, allow: [publish], topics: [guest], retain: only}\n");
  assert_int_equal(acl_rule_count(acl), 8);
  assert_int_equal(ask(acl, ann, ACL_PUBLISH, "line/7/x", 2, true), 2);
  assert_int_equal(ask(acl, ann, ACL_SUBSCRIBE, "line/7/#", 0, false), 2);
  assert_int_equal(ask(acl, (struct person){"bob", "sensor-1"}, ACL_PUBLISH, "raw/sensor-1/t", 1, false), 3);
  assert_int_equal(ask(acl, (struct person){"bob", "sensor-1"}, ACL_PUBLISH, "raw/sensor-1/t", 2, false), 0);
  assert_int_equal(ask(acl, ann, ACL_PUBLISH, "alarm/test", 0, false), -4);
  assert_int_equal(ask(acl, ann, ACL_RECEIVE, "shift/1", 0, false), 9);
  assert_int_equal(ask(acl, ann, ACL_SUBSCRIBE, "$SYS/#", 0, false), 9);
  assert_int_equal(ask(acl, ann, ACL_PUBLISH, "admin", 0, false), 14);
  assert_int_equal(ask(acl, ann, ACL_PUBLISH, "outside", 0, false), 15);
  assert_int_equal(ask(acl, nobody, ACL_PUBLISH, "guest", 0, false), 0);
  assert_int_equal(ask(acl, nobody, ACL_PUBLISH, "guest", 0, true), 16);
  assert_int_equal(ask(acl, ann, ACL_PUBLISH, "guest", 0, true), 0);
  acl_unref(acl);
}

static void lines_are_counted_through_what_stands_before(void **state)
{
  (void)state;
  struct acl *acl =
      parse("\n\n\n     - {who: \"*\", allow: [publish], topics: [a]}\n     - {who: \"*\", deny: [publish], topics: [b]}\n");
  assert_int_equal(ask(acl, nobody, ACL_PUBLISH, "a", 0, false), 4);
  assert_int_equal(ask(acl, nobody, ACL_PUBLISH, "b", 0, false), -5);
  acl_unref(acl);
}

static void an_empty_list_denies_all(void **state)
{
  (void)state;
  static const char *const texts[] = {"", "# nothing yet\n", "[]", "---\n"};
  for (size_t i = 0; i < 4; i++) {
    struct acl *acl = parse(texts[i]);
    assert_int_equal(acl_rule_count(acl), 0);
    acl_unref(acl);
  }
}

static void aliases_are_values(void **state)
{
  (void)state;
  struct acl *acl = parse("- {who: 'user:ann', allow: &all [publish, receive], topics: &t [a, b]}\n"
                          "- {who: 'user:bob', allow: *all, topics: *t}\n");
  assert_int_equal(ask(acl, (struct person){"bob", "c"}, ACL_PUBLISH, "b", 0, false), 2);
  acl_unref(acl);
}

static void all_mistakes_are_told(void **state)
{
  (void)state;
  COMPLAINS(
      "- {who: \"usr:ann\", allow: [publish], topics: [a]}\n"
      "- {who: \"user:\", allow: [publish], topics: [a]}\n"
      "- {who: \"cert.cm:x\", allow: [publish], topics: [a]}\n"
      "- {who: ann, allow: [publish], topics: [a]}\n"
      "- {who: \"*\", alow: [publish], topics: [a]}\n"
      "- {who: \"*\", allow: [publsh, read], topics: [a]}\n"
      "- {who: \"*\", allow: [], topics: [a]}\n"
      "- {who: \"*\", allow: [publish], topics: [a], topics: [b]}\n"
      "- {who: \"*\", allow: [publish], topics: []}\n",
      "acl:1:9: who: unknown subject \"usr\"; did you mean \"user:\"?",
      "acl:2:9: who: names nobody; write \"user:\" and a name, or a pattern with '*'",
      "acl:3:9: who: unknown subject \"cert.cm\"; did you mean \"cert.cn:\"?",
      "acl:4:9: who: unknown subject \"ann\"; it is \"*\", anonymous, user:NAME, group:NAME, client:ID, listener:NAME, "
      "cert.FIELD:VALUE or jwt.CLAIM:VALUE",
      "acl:5:14: alow: unknown key; did you mean \"allow\"?",
      "acl:6:22: allow: unknown verb \"publsh\"; did you mean \"publish\"?",
      "acl:6:30: allow: unknown verb \"read\"; there are publish, subscribe and receive",
      "acl:7:21: allow: is empty; name publish, subscribe or receive", "acl:8:45: topics: is there twice; keep one",
      "acl:9:40: topics: is empty; write a list of topic filters, [\"line/7/#\"] for example");
  COMPLAINS("- {allow: [publish], topics: [a]}\n"
            "- {who: \"*\", topics: [a]}\n"
            "- {who: \"*\", allow: [publish], deny: [receive], topics: [a]}\n"
            "- {who: \"*\", allow: [publish]}\n"
            "- {who: \"*\", deny: [publish], topics: [a], qos_max: 1}\n"
            "- {who: \"*\", allow: [publish], topics: [a], qos_max: 3}\n"
            "- {who: \"*\", allow: [publish], topics: [a], retain: maybe}\n"
            "- {who: \"*\", allow: [receive], topics: [a], retain: never}\n"
            "- just words\n",
            "acl:1:3: the rule has no \"who\"; write who: \"*\" for everybody",
            "acl:2:3: the rule has neither \"allow\" nor \"deny\"; write allow: [publish, subscribe, receive]",
            "acl:3:3: the rule has both \"allow\" and \"deny\"; make two rules of it",
            "acl:4:3: the rule has no \"topics\"; write topics: [\"#\"] for all but those that begin with '$'",
            "acl:5:3: the rule has \"qos_max\" with \"deny\", but it narrows what is allowed; write an allowing rule in "
            "front of it",
            "acl:6:54: qos_max: has to be 0, 1 or 2", "acl:7:53: retain: has to be any, only or never",
            "acl:8:53: retain: narrows publishing only, and the rule does not name publish",
            "acl:9:3: a rule has to be a mapping: {who: \"user:ann\", allow: [publish], topics: [\"line/7/#\"]}");
}

static void blanks_around_names_are_mistakes(void **state)
{
  (void)state;
  COMPLAINS("- {who: \"user: ann\", deny: [publish], topics: [a]}\n- {who: \"user:ann \", deny: [publish], topics: [a]}\n",
            "acl:1:9: who: a name has no blanks around it; write \"user:ann\", or a backslash in front of a blank",
            "acl:2:9: who: a name has no blanks around it; write \"user:ann\", or a backslash in front of a blank");
  struct acl *acl = parse("- {who: 'user:\\ an n\\ ', allow: [publish], topics: [a]}\n");
  assert_int_equal(ask(acl, (struct person){" an n ", "c"}, ACL_PUBLISH, "a", 0, false), 1);
  acl_unref(acl);
}

static void topics_are_checked(void **state)
{
  (void)state;
  COMPLAINS("- {who: \"*\", allow: [publish], topics: [a, \"b/#/c\"]}\n"
            "- {who: \"*\", allow: [publish], topics: [\"{clientid}\"]}\n"
            "- {who: \"*\", allow: [publish], topics: [{client_id}]}\n"
            "- {who: \"*\", allow: [subscribe], topics: [\"$share/g/a\"]}\n"
            "- {who: \"*\", allow: [subscribe], topics: [\"{cert.uo}\"]}\n",
            "acl:1:40: topic \"b/#/c\": is no topic filter; '+' is a whole level, '#' is the whole last level",
            "acl:2:40: topic \"{clientid}\": unknown variable {clientid}; did you mean {client_id}?",
            "acl:3:41: topics: is a mapping; put topic filters in quotes",
            "acl:4:42: topic \"$share/g/a\": name the filter alone, without $share/g/ in front",
            "acl:5:42: topic \"{cert.uo}\": unknown variable {cert.uo}; did you mean {cert.ou}?");
}

static void what_is_no_list_is_refused(void **state)
{
  (void)state;
  COMPLAINS("acl:\n  - {who: \"*\"}\n",
            "acl:1:1: is a mapping; an access control list is a list of rules, each with a dash in front");
  COMPLAINS("words", "acl:1:1: is a value; an access control list is a list of rules, each with a dash in front");
  COMPLAINS("- {who: *, allow: [publish], topics: [a]}\n", "acl:1:10: not YAML: did not find expected alphabetic or numeric "
                                                           "character while scanning an alias; put the star in quotes");
  COMPLAINS("- a\n\t- b\n",
            "acl:2:1: not YAML: found a tab character that violates indentation while scanning a plain scalar; "
            "indent with spaces, not with tabs");
  COMPLAINS("[]\n---\n[]\n", "acl:3:1: a second document begins here; keep one list");
  COMPLAINS("- {who: \"\xff\"}", "acl:1:10: not UTF-8 text: byte 0xff; save the file as UTF-8");
  COMPLAINS("[[[[[[[[[[]]]]]]]]]]", "acl:1:9: lists and mappings are nested too deep");
}

static void a_flood_of_mistakes_ends(void **state)
{
  (void)state;
  char text[4000] = "";
  for (unsigned i = 0; i < 500; i++) strcat(text, "- x\n");
  struct acl *acl;
  char **problems;
  size_t count;
  assert_int_equal(acl_file_parse(span_text(text), "acl", &acl, &problems, &count), ERR_INVALID);
  assert_int_equal(count, 100);
  free_problems(problems, count);
}

// ---- Mosquitto's

static void spaces_and_line_ends_are_as_there(void **state)
{
  (void)state;
  struct acl *acl = parse("# a comment\r\n"
                          "\r\n"
                          "  # another\n"
                          "user  bob the builder \r\n"
                          "topic   write   two words  \r\n"
                          "topic one\r\n");
  const struct person bob = {"bob the builder", "c"};
  assert_int_equal(ask(acl, bob, ACL_PUBLISH, "two words", 0, false), 5);
  assert_int_equal(ask(acl, bob, ACL_PUBLISH, "one", 0, false), 6);
  acl_unref(acl);
}

// There, every blank around a name is cut off, and only a space ends a word.
static void blanks_are_cut_off_as_there(void **state)
{
  (void)state;
  struct acl *acl = parse("   user \tann\v\t\n"
                          "  topic deny \tsecret\f \t\n"
                          "topic \tbare\n"
                          "topic readwrite #\n");
  assert_int_equal(ask(acl, ann, ACL_PUBLISH, "secret", 0, false), -2);
  assert_int_equal(ask(acl, ann, ACL_PUBLISH, "bare", 0, false), 4);
  assert_int_equal(ask(acl, ann, ACL_PUBLISH, "other", 0, false), 4);
  acl_unref(acl);
  COMPLAINS("user ann\n\ttopic a\ntopic \tread a\n", "acl:2:1: unknown word \"?topic\"; did you mean \"topic\"?",
            "acl:3:7: unknown access \"?read\"; it is read, write, readwrite or deny");
}

// Where a name is several levels there, or begins a topic with '$', a denial here has everything that it could mean.
static void a_denial_has_names_of_any_form(void **state)
{
  (void)state;
  struct acl *acl = parse("pattern deny in/{x}/%u/secret\n"
                          "pattern deny of/%c\n"
                          "pattern deny %c/up\n"
                          "pattern readwrite #\n"
                          "pattern readwrite $dev/{x}/#\n"
                          "pattern readwrite id/%u\n");
  const struct person slash = {"a/b", "c"}, dollar = {"ann", "$dev"}, both = {"ann", "$dev/{x}"};
  assert_int_equal(ask(acl, slash, ACL_PUBLISH, "in/{x}/a/b/secret", 0, false), -1);
  assert_int_equal(ask(acl, slash, ACL_RECEIVE, "in/{x}/other", 0, false), -1);
  assert_int_equal(ask(acl, slash, ACL_RECEIVE, "in/{y}/a/b/secret", 0, false), 4);
  assert_int_equal(ask(acl, slash, ACL_RECEIVE, "of/a/b", 0, false), 4);
  assert_int_equal(ask(acl, slash, ACL_RECEIVE, "of/c", 0, false), -2);
  assert_int_equal(ask(acl, ann, ACL_RECEIVE, "in/{x}/ann/other", 0, false), 4);
  assert_int_equal(ask(acl, ann, ACL_RECEIVE, "$dev/{x}/up", 0, false), 5);
  assert_int_equal(ask(acl, dollar, ACL_RECEIVE, "$dev/{x}/up", 0, false), -3);
  assert_int_equal(ask(acl, both, ACL_RECEIVE, "$dev/{x}/up", 0, false), -3);
  assert_true(ask(acl, ann, ACL_SUBSCRIBE, "$dev/#", 0, false) > 0);
  assert_true(ask(acl, (struct person){"a+b", "c"}, ACL_RECEIVE, "$dev/{x}/up", 0, false) < 0);
  acl_unref(acl);
  COMPLAINS("pattern read $dev-%c/#\n",
            "acl:1:14: a first level that begins with '$' cannot have %c or %u in it here; name the level");
}

static void mosquittos_meaning_is_kept(void **state)
{
  (void)state;
  struct acl *acl = parse("topic read public/#\n"            // 1
                          "topic guest\n"                    // 2
                          "user ann\n"                       //
                          "topic write w/#\n"                // 4
                          "topic read r/#\n"                 // 5
                          "topic rw\n"                       // 6
                          "topic deny r/secret\n"            // 7
                          "topic read with a space\n"        // 8
                          "user bob\n"                       //
                          "topic read #\n"                   // 10
                          "topic readwrite $SYS/broker/#\n"  // 11
                          "user ann\n"                       //
                          "topic late\n"                     // 13
                          "pattern write dev/%c/up-%u\n"     // 14
                          "pattern deny dev/x/up-ann\n"      // 15
                          "pattern read all\n");             // 16
  // Who has no name has the lines before the first user, who has one has not.
  assert_int_equal(ask(acl, nobody, ACL_RECEIVE, "public/x", 0, false), 1);
  assert_int_equal(ask(acl, nobody, ACL_PUBLISH, "public/x", 0, false), 0);
  assert_int_equal(ask(acl, nobody, ACL_PUBLISH, "guest", 0, false), 2);
  assert_int_equal(ask(acl, ann, ACL_RECEIVE, "public/x", 0, false), 0);
  assert_int_equal(ask(acl, ann, ACL_PUBLISH, "w/x", 2, true), 4);
  assert_int_equal(ask(acl, ann, ACL_RECEIVE, "w/x", 0, false), 0);
  assert_int_equal(ask(acl, ann, ACL_RECEIVE, "r/x", 0, false), 5);
  assert_int_equal(ask(acl, ann, ACL_PUBLISH, "rw", 0, false), 6);
  assert_int_equal(ask(acl, ann, ACL_RECEIVE, "rw", 0, false), 6);
  assert_int_equal(ask(acl, ann, ACL_RECEIVE, "r/secret", 0, false), -7);  // in front of what allows it
  assert_int_equal(ask(acl, ann, ACL_RECEIVE, "with a space", 0, false), 8);
  assert_int_equal(ask(acl, ann, ACL_PUBLISH, "late", 0, false), 13);
  const struct person bob = {"bob", "x"};
  assert_int_equal(ask(acl, bob, ACL_RECEIVE, "anything", 0, false), 10);
  assert_int_equal(ask(acl, bob, ACL_RECEIVE, "$SYS/broker/x", 0, false), 11);
  assert_int_equal(ask(acl, bob, ACL_RECEIVE, "$SYS/x", 0, false), 0);
  // Patterns come behind, for everybody.
  assert_int_equal(ask(acl, ann, ACL_PUBLISH, "dev/c1/up-ann", 0, false), 14);
  assert_int_equal(ask(acl, ann, ACL_PUBLISH, "dev/c2/up-ann", 0, false), 0);
  assert_int_equal(ask(acl, (struct person){"ann", "x"}, ACL_PUBLISH, "dev/x/up-ann", 0, false), -15);
  assert_int_equal(ask(acl, nobody, ACL_PUBLISH, "dev/c1/up-", 0, false), 0);
  assert_int_equal(ask(acl, nobody, ACL_RECEIVE, "all", 0, false), 16);
  // Everybody may subscribe to everything, and gets what may be read.
  assert_true(ask(acl, nobody, ACL_SUBSCRIBE, "#", 0, false) > 0);
  assert_true(ask(acl, ann, ACL_SUBSCRIBE, "$SYS/#", 0, false) > 0);
  // A name that would be a wildcard has nothing once there are patterns.
  assert_true(ask(acl, (struct person){"ann", "c+"}, ACL_RECEIVE, "all", 0, false) < 0);
  assert_true(ask(acl, (struct person){"#", "c"}, ACL_RECEIVE, "all", 0, false) < 0);
  assert_int_equal(ask(acl, (struct person){"ann", "c+"}, ACL_RECEIVE, "r/x", 0, false), 5);
  acl_unref(acl);
}

static void signs_of_ours_mean_nothing_there(void **state)
{
  (void)state;
  struct acl *acl = parse("user a*\\?\n"
                          "topic {client_id}/%c\n"
                          "pattern {x}/%c%%u\n");
  const struct person star = {"a*\\?", "c"}, other = {"abx", "c"};
  assert_int_equal(ask(acl, star, ACL_PUBLISH, "{client_id}/%c", 0, false), 2);
  assert_int_equal(ask(acl, star, ACL_PUBLISH, "c/%c", 0, false), 0);
  assert_int_equal(ask(acl, other, ACL_PUBLISH, "{client_id}/%c", 0, false), 0);
  assert_int_equal(ask(acl, other, ACL_PUBLISH, "{x}/c%abx", 0, false), 3);
  acl_unref(acl);
}

static void mosquittos_mistakes_are_told(void **state)
{
  (void)state;
  COMPLAINS("user ann\n"
            "topic raed a\n"
            "topics read a\n"
            "topic\n"
            "topic a/#/b\n"
            "user\n"
            "foo\n",
            "acl:2:7: unknown access \"raed\"; it is read, write, readwrite or deny",
            "acl:3:1: unknown word \"topics\"; did you mean \"topic\"?", "acl:4: names no topic", "acl:6: names no user",
            "acl:7:1: unknown word \"foo\"; a line begins with topic, user or pattern",
            "acl:5:7: topic \"a/#/b\": is no topic filter; '+' is a whole level, '#' is the whole last level");
}

static void the_form_is_known_by_looking(void **state)
{
  (void)state;
  struct acl *acl = parse("# x\n\n# y\npattern read a\n");
  assert_int_equal(ask(acl, nobody, ACL_RECEIVE, "a", 0, false), 4);
  acl_unref(acl);
  acl = parse("# topic read a\n- {who: anonymous, allow: [receive], topics: [a]}\n");
  assert_int_equal(ask(acl, nobody, ACL_RECEIVE, "a", 0, false), 2);
  acl_unref(acl);
}

// ---- Files

static void files_are_read_and_missed(void **state)
{
  (void)state;
  char path[] = "acl_file_test_XXXXXX";
  int fd = mkstemp(path);
  assert_true(fd >= 0);
  static const char rule[] = "- {who: \"*\", allow: [publish], topics: [\"a/b/c/d/e/f/g/h\"]}\n";
  for (unsigned i = 0; i < 1000; i++) assert_int_equal(write(fd, rule, sizeof rule - 1), sizeof rule - 1);
  close(fd);
  struct acl *acl;
  char **problems;
  size_t count;
  assert_int_equal(acl_file_load(path, &acl, &problems, &count), OK);
  assert_int_equal(acl_rule_count(acl), 1000);
  acl_unref(acl);
  unlink(path);
  assert_int_equal(acl_file_load(path, &acl, &problems, &count), ERR_NOT_FOUND);
  assert_int_equal(count, 1);
  assert_non_null(strstr(problems[0], "cannot be read: No such file"));
  free_problems(problems, count);
  assert_int_equal(acl_file_load(".", &acl, &problems, &count), ERR_INVALID);  // a directory
  assert_non_null(strstr(problems[0], "cannot be read"));
  free_problems(problems, count);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_lists_of_the_manual_are_read),
      cmocka_unit_test(lines_are_counted_through_what_stands_before),
      cmocka_unit_test(an_empty_list_denies_all),
      cmocka_unit_test(aliases_are_values),
      cmocka_unit_test(all_mistakes_are_told),
      cmocka_unit_test(blanks_around_names_are_mistakes),
      cmocka_unit_test(topics_are_checked),
      cmocka_unit_test(what_is_no_list_is_refused),
      cmocka_unit_test(a_flood_of_mistakes_ends),
      cmocka_unit_test(spaces_and_line_ends_are_as_there),
      cmocka_unit_test(blanks_are_cut_off_as_there),
      cmocka_unit_test(a_denial_has_names_of_any_form),
      cmocka_unit_test(mosquittos_meaning_is_kept),
      cmocka_unit_test(signs_of_ours_mean_nothing_there),
      cmocka_unit_test(mosquittos_mistakes_are_told),
      cmocka_unit_test(the_form_is_known_by_looking),
      cmocka_unit_test(files_are_read_and_missed),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
