// An access control list, a NUL, a topic filter, a NUL, a topic. Parsing must end in a list or in words; of a list the
// decisions must agree with themselves: the cache with the walk, and who may subscribe to a filter may subscribe to each
// topic in it.
#include <stdlib.h>
#include <string.h>

#include "auth/acl_file.h"
#include "mqtt/topic.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool condition)
{
  if (!condition) abort();
}

// Up to the next NUL, in memory of its own size.
static struct span take(struct span *rest, uint8_t **out)
{
  const uint8_t *nul = rest->size > 0 ? memchr(rest->at, 0, rest->size) : NULL;
  size_t size = nul ? (size_t)(nul - rest->at) : rest->size;
  *out = malloc(size ? size : 1);
  check(*out);
  if (size) memcpy(*out, rest->at, size);
  *rest = span_from(*rest, nul ? size + 1 : size);
  return span_of(*out, size);
}

static struct acl_decision decide(struct acl_view *view, enum acl_verb verb, struct span topic)
{
  struct acl_decision first, again;
  const struct acl_request request = {.verb = verb, .topic = topic, .topic_hash = topic.size, .qos = topic.size % 3};
  acl_decide(view, &request, &first);
  acl_decide(view, &request, &again);
  check(first.allowed == again.allowed && first.matched == again.matched && first.line == again.line);
  check(first.matched || !first.allowed);
  return first;
}

static void ask(struct acl *acl, const struct identity *identity, struct span client_id, struct span filter,
                struct span topic)
{
  struct acl_view *view;
  if (acl_view_create(acl, identity, client_id, &view) != OK) return;
  bool may_subscribe = decide(view, ACL_SUBSCRIBE, filter).allowed;
  if (mqtt_topic_valid(topic)) {
    if (may_subscribe && mqtt_filter_matches(filter, topic)) check(decide(view, ACL_SUBSCRIBE, topic).allowed);
    decide(view, ACL_PUBLISH, topic);
    bool may_receive = decide(view, ACL_RECEIVE, topic).allowed;
    if (acl_view_receives_all(view) && topic.at[0] != '$') check(may_receive);
  }
  acl_view_free(view);
}

static void ask_all(struct acl *acl, struct span filter, struct span topic)
{
  const struct span groups[] = {topic, span_text("operators")};
  const struct identity_fact facts[] = {
      {span_text("cert.cn"), span_text("a")}, {span_text("jwt.site"), topic}, {span_text("jwt.site"), span_text("b")}};
  const struct identity parts = {.user = span_text("ann"),
                                 .listener = span_text("mqtt://127.0.0.1:1883"),
                                 .groups = groups,
                                 .group_count = 2,
                                 .facts = facts,
                                 .fact_count = 3};
  const struct identity *identity = identity_create(&parts);
  check(identity);
  ask(acl, NULL, span_text("c"), filter, topic);
  ask(acl, identity, topic, filter, topic);
  ask(acl, identity, span_text("a"), filter, topic);
  identity_unref(identity);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  if (size > 8192) return 0;
  struct span rest = span_of(data, size);
  uint8_t *owned[3];
  struct span text = take(&rest, &owned[0]), filter = take(&rest, &owned[1]), topic = take(&rest, &owned[2]);
  struct acl *acl;
  char **problems;
  size_t count;
  struct mqtt_filter parsed;
  enum status status = acl_file_parse(text, "acl", &acl, &problems, &count);
  check((status == OK) == (count == 0) || status == ERR_NO_MEMORY);
  if (status == OK) {
    if (mqtt_filter_parse(filter, &parsed)) ask_all(acl, parsed.filter, topic);
    acl_unref(acl);
  }
  for (size_t i = 0; i < count; i++) {
    check(strncmp(problems[i], "acl", 3) == 0);
    free(problems[i]);
  }
  free(problems);
  for (size_t i = 0; i < 3; i++) free(owned[i]);
  return 0;
}
