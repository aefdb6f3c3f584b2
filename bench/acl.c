// What access control costs a message: decisions of a list of 10,000 rules, beside a bare loop over the same topics.
//
//   acl [--strict]    prints a row each: the bare loop, decisions that are remembered, decisions that are not, and what a
//   new
//                     connection's view of the list costs. Each is the least of several rounds, in nanoseconds of CPU.
//                     --strict: exit code 1 when a remembered decision takes a microsecond or more.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/hash.h"
#include "core/acl.h"

enum { RULES = 10000, FEW = 8, MANY = 4096, ROUNDS = 20, DECISIONS = 100000, VIEWS = 2000, TEXT = 64, MARK_NS = 1000 };

struct question {
  char text[TEXT];
  struct acl_request request;
};

static void __attribute__((noreturn)) fail(const char *what)
{
  fprintf(stderr, "acl: %s\n", what);
  exit(1);
}

// Half of the rules are for everybody, each with a line of its own; half for one user each, with the client identifier in
// the topic.
static struct acl *make_list(void)
{
  struct acl *acl;
  struct error error = {0};
  if (acl_create(&acl) != OK) fail("out of memory");
  for (uint32_t i = 0; i < RULES; i++) {
    char topic[TEXT], user[TEXT];
    snprintf(topic, sizeof topic, i % 2 ? "device/{client_id}/%u/#" : "plant/line/%u/#", i);
    snprintf(user, sizeof user, "user%u", i);
    const struct span topics[] = {span_text(topic)};
    const struct acl_rule rule = {.subject = i % 2 ? ACL_USER : ACL_ANYBODY,
                                  .who = i % 2 ? span_text(user) : (struct span){0},
                                  .verbs = ACL_PUBLISH | ACL_SUBSCRIBE | ACL_RECEIVE,
                                  .allow = true,
                                  .qos_max = 2,
                                  .topics = topics,
                                  .topic_count = 1};
    if (acl_add(acl, &rule, &error) != OK) fail(error.text);
  }
  return acl;
}

static void ask_about(struct question *questions, unsigned count)
{
  for (unsigned i = 0; i < count; i++) {
    struct question *question = &questions[i];
    snprintf(question->text, sizeof question->text, "plant/line/%u/sensor/temperature", i * 2 % RULES);
    question->request = (struct acl_request){.verb = ACL_PUBLISH, .topic = span_text(question->text), .qos = 1};
  }
}

static double now_ns(void)
{
  struct timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

// What any broker does with a topic, and no list: it hashes it. `view` NULL: nothing else.
static double decide(struct acl_view *view, struct question *questions, unsigned count)
{
  double least = 1e18;
  for (unsigned round = 0; round < ROUNDS; round++) {
    double start = now_ns();
    uint64_t sum = 0;
    for (unsigned i = 0; i < DECISIONS; i++) {
      struct acl_request *request = &questions[i % count].request;
      request->topic_hash = hash_span(1, request->topic);
      sum += request->topic_hash;
      if (!view) continue;
      struct acl_decision decision;
      acl_decide(view, request, &decision);
      if (!decision.allowed) fail("a decision is wrong");
    }
    double ns = (now_ns() - start) / DECISIONS;
    if (sum != 0 && ns < least) least = ns;
  }
  return least;
}

static double connect_clients(struct acl *acl)
{
  const struct identity *identity = identity_create(&(struct identity){.user = span_text("user77")});
  double least = 1e18;
  for (unsigned round = 0; round < ROUNDS; round++) {
    double start = now_ns();
    for (unsigned i = 0; i < VIEWS; i++) {
      struct acl_view *view;
      if (acl_view_create(acl, identity, span_text("sensor-77"), &view) != OK) fail("out of memory");
      acl_view_free(view);
    }
    double ns = (now_ns() - start) / VIEWS;
    if (ns < least) least = ns;
  }
  identity_unref(identity);
  return least;
}

int main(int argc, char **argv)
{
  bool strict = argc > 1 && strcmp(argv[1], "--strict") == 0;
  static struct question few[FEW], many[MANY];
  ask_about(few, FEW);
  ask_about(many, MANY);
  struct acl *acl = make_list();
  const struct identity *identity = identity_create(&(struct identity){.user = span_text("user77")});
  struct acl_view *view;
  if (!identity || acl_view_create(acl, identity, span_text("sensor-77"), &view) != OK) fail("out of memory");
  double bare_few = decide(NULL, few, FEW), cached = decide(view, few, FEW);
  double bare_many = decide(NULL, many, MANY), walked = decide(view, many, MANY);
  printf("access control, %d rules                          ns   bare loop\n", RULES);
  printf("  a decision that is remembered              %7.1f     %7.1f\n", cached, bare_few);
  printf("  a decision that is not (%d topics)       %7.1f     %7.1f\n", MANY, walked, bare_many);
  printf("  the view of a client that connects         %7.1f\n", connect_clients(acl));
  acl_view_free(view);
  identity_unref(identity);
  acl_unref(acl);
  if (cached < MARK_NS) return 0;
  printf("MISSED: a remembered decision is to take less than %d ns\n", MARK_NS);
  return strict;
}
