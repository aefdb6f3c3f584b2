// The authenticator with passwords, tokens and exchanges of this test's own, which take as long as they are told. What it
// does is waited for by its news, and its clock is the test's: no test depends on how long anything takes.
#include "net/authenticator.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "auth/backoff.h"
#include "auth/enhanced.h"
#include "mqtt/packet.h"

enum { PATIENCE_S = 20, ORDER_MAX = 64 };

// ---- What the test stands in for. The threads of one authenticator at a time use it.

static struct {
  bool closed;         // passwords wait at the gate
  sem_t inside, pass;  // one has come to it; one may go through
  _Atomic unsigned hashes, tokens, steps, open_exchanges, asked_groups;
  char order[ORDER_MAX][16];  // of the users whose passwords were hashed
  _Atomic unsigned failing;   // memory for hashes is short
} world;

struct passwords {
  int unused;
};
struct jwt_keys {
  int unused;
};
static struct passwords some_passwords;
static struct jwt_keys some_keys;

enum password_answer passwords_verify(const struct passwords *passwords, struct span user, struct span password,
                                      struct wall now)
{
  (void)now;
  assert_ptr_equal(passwords, &some_passwords);
  unsigned number = atomic_fetch_add(&world.hashes, 1);
  if (number < ORDER_MAX)
    snprintf(world.order[number], sizeof world.order[0], "%.*s", (int)user.size, (const char *)user.at);
  if (world.closed) {
    sem_post(&world.inside);
    while (sem_wait(&world.pass) != 0) continue;
  }
  if (atomic_load(&world.failing)) return PASSWORD_FAILED;
  if (span_equal(user, span_text("nobody"))) return PASSWORD_UNKNOWN_USER;
  return span_equal(password, span_text("right")) ? PASSWORD_RIGHT : PASSWORD_WRONG;
}

const char *const *passwords_groups(const struct passwords *passwords, struct span user)
{
  static const char *const groups[] = {"ops", "fitters", NULL};
  assert_ptr_equal(passwords, &some_passwords);
  atomic_fetch_add(&world.asked_groups, 1);
  return span_equal(user, span_text("ann")) ? groups : NULL;
}

// Tokens of this test: "token:<user>:<seconds left>", "token:" is wrong.
bool jwt_looks_like(struct span token)
{
  return token.size >= 6 && memcmp(token.at, "token:", 6) == 0;
}

enum status jwt_verify(const struct jwt_keys *keys, struct span token, struct span listener, struct wall now,
                       const struct identity **out, const char **out_why)
{
  assert_ptr_equal(keys, &some_keys);
  atomic_fetch_add(&world.tokens, 1);
  char user[32] = "";
  unsigned left_s = 0;
  char text[64];
  snprintf(text, sizeof text, "%.*s", (int)token.size, (const char *)token.at);
  if (sscanf(text, "token:%31[^:]:%u", user, &left_s) < 1) {
    *out_why = "the token is wrong";
    return ERR_INVALID;
  }
  struct identity_fact fact = {span_text("jwt.sub"), span_text(user)};
  struct identity parts = {.user = span_text(user), .method = "jwt", .listener = listener, .facts = &fact, .fact_count = 1};
  if (left_s > 0) parts.expires_ms = now.ms + left_s * 1000;
  *out = identity_create(&parts);
  return *out ? OK : ERR_NO_MEMORY;
}

// An exchange of two steps: "n=<user>", then "p=right".
struct enhanced {
  char user[32];
  unsigned steps;
};

bool enhanced_knows(struct span method)
{
  return span_equal(method, span_text("SCRAM-SHA-256"));
}

struct enhanced *enhanced_begin(struct span method)
{
  assert_true(enhanced_knows(method));
  atomic_fetch_add(&world.open_exchanges, 1);
  return calloc(1, sizeof(struct enhanced));
}

void enhanced_free(struct enhanced *exchange)
{
  assert_non_null(exchange);
  atomic_fetch_sub(&world.open_exchanges, 1);
  free(exchange);
}

static enum mqtt_reason say(enum mqtt_reason reason, const char *text, uint8_t **out, size_t *out_size)
{
  *out = (uint8_t *)strdup(text);
  *out_size = strlen(text);
  return reason;
}

enum mqtt_reason enhanced_step(struct enhanced *exchange, const struct passwords *passwords, struct span secret,
                               struct wall now, struct span data, uint8_t **out, size_t *out_size, const char **out_why)
{
  (void)now;
  assert_ptr_equal(passwords, &some_passwords);
  assert_int_equal(secret.size, 32);
  atomic_fetch_add(&world.steps, 1);
  char text[64];
  snprintf(text, sizeof text, "%.*s", (int)data.size, (const char *)data.at);
  if (exchange->steps++ == 0 && sscanf(text, "n=%31s", exchange->user) == 1)
    return say(MQTT_CONTINUE_AUTHENTICATION, "challenge", out, out_size);
  if (exchange->steps == 2 && strcmp(text, "p=right") == 0) return say(MQTT_SUCCESS, "verified", out, out_size);
  *out_why = "the proof is wrong";
  return MQTT_NOT_AUTHORIZED;
}

struct span enhanced_user(const struct enhanced *exchange)
{
  return span_text(exchange->user);
}

// The gates are the test's, and live longer than the authenticator.
struct gate *gate_ref(struct gate *gate)
{
  references_take(&gate->references);
  return gate;
}

void gate_unref(struct gate *gate)
{
  assert_false(references_drop(&gate->references));
}

static _Atomic uint64_t mono_ms;

static void test_clock(struct mono *out_mono, struct wall *out_wall)
{
  uint64_t ms = atomic_load(&mono_ms);
  *out_mono = (struct mono){ms};
  *out_wall = (struct wall){(int64_t)ms + 1700000000000};
}

// ---- Asking

static sem_t news;
static _Atomic unsigned news_for[2];

static void take_news(void *context, uint8_t loop)
{
  assert_ptr_equal(context, &news);
  atomic_fetch_add(&news_for[loop], 1);
  sem_post(&news);
}

static void wait_for(sem_t *semaphore)
{
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += PATIENCE_S;
  if (sem_timedwait(semaphore, &until) != 0) fail_msg("nothing has happened");
}

static struct authenticator *create(uint32_t questions)
{
  memset(&world, 0, sizeof world);
  sem_init(&world.inside, 0, 0);
  sem_init(&world.pass, 0, 0);
  sem_init(&news, 0, 0);
  atomic_store(&mono_ms, 5000);
  atomic_store(&news_for[0], 0);
  atomic_store(&news_for[1], 0);
  const struct authenticator_settings settings = {
      .threads = 1, .questions = questions, .seed = 9, .news = take_news, .context = &news, .clock = test_clock};
  struct authenticator *authenticator = NULL;
  struct error error = {0};
  if (authenticator_create(&settings, &authenticator, &error) != OK) fail_msg("%s", error.text);
  return authenticator;
}

// Ends it, and what was kept for it: every reference is back.
static void destroy(struct authenticator *authenticator, const struct gate *gate)
{
  authenticator_destroy(authenticator);
  assert_int_equal(atomic_load(&gate->references.count), 1);
  assert_int_equal(atomic_load(&world.open_exchanges), 0);
  sem_destroy(&world.inside);
  sem_destroy(&world.pass);
  sem_destroy(&news);
}

#define GATE(...)                                                                                                           \
  {                                                                                                                         \
    .references = {1}, .name = (char[]){"wan"}, .passwords = &some_passwords, .jwt = &some_keys, .methods = {__VA_ARGS__},  \
    .method_count = sizeof((enum auth_method[]){__VA_ARGS__}) / sizeof(enum auth_method)                                    \
  }

static struct authentication *question(const char *user, const char *password)
{
  const struct authentication parts = {.version = MQTT_5_0,
                                       .has_user = user != NULL,
                                       .has_password = password != NULL,
                                       .client_id = span_text("client"),
                                       .user = span_text(user ? user : ""),
                                       .password = span_text(password ? password : "")};
  struct authentication *asked = authentication_create(&parts);
  assert_non_null(asked);
  return asked;
}

static struct authentication *step(const char *method, const char *data, struct enhanced *exchange, const char *again)
{
  const struct authentication parts = {.version = MQTT_5_0,
                                       .again = again != NULL,
                                       .has_user = again != NULL,
                                       .user = span_text(again ? again : ""),
                                       .client_id = span_text("client"),
                                       .method = span_text(method),
                                       .data = span_text(data)};
  struct authentication *asked = authentication_create(&parts);
  assert_non_null(asked);
  asked->enhanced = exchange;
  return asked;
}

static bool ask_from(struct authenticator *authenticator, struct gate *gate, struct authentication *asked,
                     const char *address)
{
  const struct auth_origin origin = {.gate = gate, .address = address};
  return authenticator_ask(authenticator, 0, asked, &origin);
}

// ... and what is answered, now or later. The same struct comes back.
static void answer_from(struct authenticator *authenticator, struct gate *gate, struct authentication *asked,
                        const char *address)
{
  if (ask_from(authenticator, gate, asked, address)) return;
  wait_for(&news);
  assert_true(authenticator_answered(authenticator, 0));
  assert_ptr_equal(authenticator_take(authenticator, 0), asked);
  assert_null(authenticator_take(authenticator, 0));
}

static enum mqtt_reason reason_from(struct authenticator *authenticator, struct gate *gate, const char *user,
                                    const char *password, const char *address)
{
  struct authentication *asked = question(user, password);
  answer_from(authenticator, gate, asked, address);
  enum mqtt_reason reason = asked->reason;
  assert_true((reason == MQTT_SUCCESS) == (asked->identity != NULL));
  assert_true((reason == MQTT_SUCCESS) == (asked->why == NULL));
  authentication_free(asked);
  return reason;
}

static enum mqtt_reason reason_of(struct authenticator *authenticator, struct gate *gate, const char *user,
                                  const char *password)
{
  return reason_from(authenticator, gate, user, password, "192.0.2.1:5");
}

static struct authenticator_counters counters(struct authenticator *authenticator)
{
  struct authenticator_counters counters;
  authenticator_counters(authenticator, &counters);
  return counters;
}

static const char *method_of(const struct authentication *asked)
{
  return asked->identity ? asked->identity->method : "none";
}

// ---- Each way

static void a_password_makes_a_user_with_groups(void **state)
{
  (void)state;
  struct gate gate = GATE(AUTH_PASSWORD);
  struct authenticator *authenticator = create(0);
  struct authentication *asked = question("ann", "right");
  const struct identity_fact fact = {span_text("cert.ou"), span_text("line")};
  const struct auth_origin origin = {.gate = &gate, .address = "192.0.2.1:5", .facts = &fact, .fact_count = 1};
  assert_false(authenticator_ask(authenticator, 1, asked, &origin));
  wait_for(&news);
  assert_int_equal(atomic_load(&news_for[1]), 1);
  assert_false(authenticator_answered(authenticator, 0));
  assert_null(authenticator_take(authenticator, 0));
  assert_ptr_equal(authenticator_take(authenticator, 1), asked);
  assert_int_equal(asked->reason, MQTT_SUCCESS);
  assert_string_equal(method_of(asked), "password");
  assert_true(span_equal(asked->identity->user, span_text("ann")));
  assert_true(span_equal(asked->identity->listener, span_text("wan")));
  assert_int_equal(asked->identity->group_count, 2);
  assert_true(span_equal(asked->identity->groups[1], span_text("fitters")));
  // What is known of the certificate stays known.
  assert_int_equal(asked->identity->fact_count, 1);
  assert_true(span_equal(asked->identity->facts[0].value, span_text("line")));
  assert_int_equal(asked->expires.ms, 0);
  authentication_free(asked);
  struct authenticator_counters count = counters(authenticator);
  assert_int_equal(count.accepted[AUTH_PASSWORD], 1);
  assert_int_equal(count.hash_count, 1);
  assert_int_equal(count.waiting, 0);
  destroy(authenticator, &gate);
}

static void wrong_passwords_and_unknown_users_are_refused_alike(void **state)
{
  (void)state;
  struct gate gate = GATE(AUTH_PASSWORD);
  struct authenticator *authenticator = create(0);
  assert_int_equal(reason_of(authenticator, &gate, "ann", "wrong"), MQTT_BAD_USER_NAME_OR_PASSWORD);
  assert_int_equal(reason_of(authenticator, &gate, "nobody", "right"), MQTT_BAD_USER_NAME_OR_PASSWORD);
  assert_int_equal(atomic_load(&world.hashes), 2);
  assert_int_equal(counters(authenticator).refused[AUTH_REFUSED_CREDENTIALS], 2);
  atomic_store(&world.failing, 1);
  assert_int_equal(reason_of(authenticator, &gate, "ann", "right"), MQTT_SERVER_BUSY);
  assert_int_equal(counters(authenticator).refused[AUTH_REFUSED_BUSY], 1);
  destroy(authenticator, &gate);
}

static void half_of_a_password_is_refused_at_once(void **state)
{
  (void)state;
  struct gate gate = GATE(AUTH_PASSWORD);
  gate.anonymous = true;
  struct authenticator *authenticator = create(0);
  assert_int_equal(reason_of(authenticator, &gate, "ann", NULL), MQTT_BAD_USER_NAME_OR_PASSWORD);
  assert_int_equal(reason_of(authenticator, &gate, NULL, "right"), MQTT_BAD_USER_NAME_OR_PASSWORD);
  assert_int_equal(atomic_load(&world.hashes), 0);
  assert_int_equal(reason_of(authenticator, &gate, "", "right"), MQTT_BAD_USER_NAME_OR_PASSWORD);
  assert_int_equal(atomic_load(&world.hashes), 0);
  destroy(authenticator, &gate);
}

static void nobody_comes_in_only_where_that_is_said(void **state)
{
  (void)state;
  struct gate gate = GATE(AUTH_CERT, AUTH_PASSWORD, AUTH_JWT);
  struct authenticator *authenticator = create(0);
  assert_int_equal(reason_of(authenticator, &gate, NULL, NULL), MQTT_NOT_AUTHORIZED);
  gate.anonymous = true;
  struct authentication *asked = question(NULL, NULL);
  assert_true(ask_from(authenticator, &gate, asked, "192.0.2.1:5"));
  assert_int_equal(asked->reason, MQTT_SUCCESS);
  assert_string_equal(method_of(asked), "anonymous");
  assert_int_equal(asked->identity->user.size, 0);
  assert_true(span_equal(asked->identity->listener, span_text("wan")));
  authentication_free(asked);
  assert_int_equal(atomic_load(&world.asked_groups), 0);
  assert_int_equal(counters(authenticator).accepted_anonymous, 1);
  assert_int_equal(counters(authenticator).refused[AUTH_REFUSED_NOT_AUTHORIZED], 1);

  // Where no passwords are checked, they say nothing.
  struct gate open = GATE(AUTH_CERT);
  open.anonymous = true;
  asked = question("ann", "whatever");
  assert_true(ask_from(authenticator, &open, asked, "192.0.2.1:5"));
  assert_string_equal(method_of(asked), "anonymous");
  assert_int_equal(asked->identity->user.size, 0);
  authentication_free(asked);
  open.anonymous = false;
  assert_int_equal(reason_of(authenticator, &open, "ann", "whatever"), MQTT_NOT_AUTHORIZED);
  destroy(authenticator, &gate);
}

static struct authentication *ask_with_certificate(struct authenticator *authenticator, struct gate *gate, const char *psk,
                                                   const char *password)
{
  static const struct identity_fact facts[] = {{{(const uint8_t *)"cert.cn", 7}, {(const uint8_t *)"ann", 3}},
                                               {{(const uint8_t *)"cert.ou", 7}, {(const uint8_t *)"line", 4}}};
  struct authentication *asked = question(password ? "bob" : NULL, password);
  const struct auth_origin origin = {
      .gate = gate, .address = "192.0.2.1:5", .psk_identity = psk, .facts = psk ? NULL : facts, .fact_count = psk ? 0 : 2};
  if (!authenticator_ask(authenticator, 0, asked, &origin)) {
    wait_for(&news);
    assert_ptr_equal(authenticator_take(authenticator, 0), asked);
  }
  return asked;
}

static void a_certificate_s_name_is_the_user(void **state)
{
  (void)state;
  struct gate gate = GATE(AUTH_CERT, AUTH_PASSWORD);
  struct authenticator *authenticator = create(0);
  struct authentication *asked = ask_with_certificate(authenticator, &gate, NULL, "right");
  assert_string_equal(method_of(asked), "cert");
  assert_true(span_equal(asked->identity->user, span_text("ann")));
  assert_int_equal(asked->identity->fact_count, 2);
  assert_int_equal(asked->identity->group_count, 2);
  authentication_free(asked);

  gate.identity = (char[]){"{cert.ou}-{cert.cn}"};
  asked = ask_with_certificate(authenticator, &gate, NULL, NULL);
  assert_true(span_equal(asked->identity->user, span_text("line-ann")));
  authentication_free(asked);

  // The certificate was to decide: nothing else is tried.
  gate.identity = (char[]){"cert.san_dns"};
  asked = ask_with_certificate(authenticator, &gate, NULL, "right");
  assert_int_equal(asked->reason, MQTT_NOT_AUTHORIZED);
  authentication_free(asked);
  assert_int_equal(atomic_load(&world.hashes), 0);
  assert_int_equal(counters(authenticator).accepted[AUTH_CERT], 2);
  destroy(authenticator, &gate);
}

static void the_first_method_that_applies_decides(void **state)
{
  (void)state;
  struct gate gate = GATE(AUTH_PASSWORD, AUTH_CERT);
  struct authenticator *authenticator = create(0);
  struct authentication *asked = ask_with_certificate(authenticator, &gate, NULL, "right");
  assert_string_equal(method_of(asked), "password");
  assert_true(span_equal(asked->identity->user, span_text("bob")));
  authentication_free(asked);
  asked = ask_with_certificate(authenticator, &gate, NULL, "wrong");
  assert_int_equal(asked->reason, MQTT_BAD_USER_NAME_OR_PASSWORD);
  authentication_free(asked);
  asked = ask_with_certificate(authenticator, &gate, NULL, NULL);
  assert_string_equal(method_of(asked), "cert");
  authentication_free(asked);
  destroy(authenticator, &gate);
}

static void a_pre_shared_key_s_identity_is_the_user(void **state)
{
  (void)state;
  struct gate gate = GATE(AUTH_PSK);
  struct authenticator *authenticator = create(0);
  struct authentication *asked = ask_with_certificate(authenticator, &gate, "pump-3", NULL);
  assert_string_equal(method_of(asked), "psk");
  assert_true(span_equal(asked->identity->user, span_text("pump-3")));
  authentication_free(asked);
  asked = ask_with_certificate(authenticator, &gate, "", NULL);
  assert_int_equal(asked->reason, MQTT_NOT_AUTHORIZED);
  authentication_free(asked);
  assert_int_equal(reason_of(authenticator, &gate, NULL, NULL), MQTT_NOT_AUTHORIZED);
  destroy(authenticator, &gate);
}

// ---- Tokens

static void a_token_makes_a_user_until_it_ends(void **state)
{
  (void)state;
  struct gate gate = GATE(AUTH_JWT);
  struct authenticator *authenticator = create(0);
  struct authentication *asked = ask_with_certificate(authenticator, &gate, NULL, NULL);
  assert_int_equal(asked->reason, MQTT_NOT_AUTHORIZED);
  authentication_free(asked);
  asked = question("", "token:ann:60");
  answer_from(authenticator, &gate, asked, "192.0.2.1:5");
  assert_string_equal(method_of(asked), "jwt");
  assert_true(span_equal(asked->identity->user, span_text("ann")));
  assert_int_equal(asked->expires.ms, 65000);
  assert_int_equal(asked->identity->expires_ms, 1700000065000);
  authentication_free(asked);
  asked = question(NULL, "token:ann:0");
  answer_from(authenticator, &gate, asked, "192.0.2.1:5");
  assert_int_equal(asked->expires.ms, 0);
  authentication_free(asked);
  assert_int_equal(counters(authenticator).accepted[AUTH_JWT], 2);
  destroy(authenticator, &gate);
}

static void the_facts_of_a_token_and_of_a_certificate_are_both_known(void **state)
{
  (void)state;
  struct gate gate = GATE(AUTH_JWT, AUTH_CERT);
  struct authenticator *authenticator = create(0);
  struct authentication *asked = ask_with_certificate(authenticator, &gate, NULL, "token:bob:60");
  assert_string_equal(method_of(asked), "jwt");
  assert_int_equal(asked->identity->fact_count, 3);
  assert_true(span_equal(identity_find(asked->identity, span_text("jwt.sub")), span_text("bob")));
  assert_true(span_equal(identity_find(asked->identity, span_text("cert.cn")), span_text("ann")));
  assert_int_equal(asked->expires.ms, 65000);
  authentication_free(asked);
  destroy(authenticator, &gate);
}

static void a_user_name_beside_a_token_has_to_be_its_own(void **state)
{
  (void)state;
  struct gate gate = GATE(AUTH_JWT);
  struct authenticator *authenticator = create(0);
  assert_int_equal(reason_of(authenticator, &gate, "ann", "token:ann:60"), MQTT_SUCCESS);
  assert_int_equal(reason_of(authenticator, &gate, "bob", "token:ann:60"), MQTT_BAD_USER_NAME_OR_PASSWORD);
  assert_int_equal(reason_of(authenticator, &gate, "ann", "right"), MQTT_BAD_USER_NAME_OR_PASSWORD);
  assert_int_equal(reason_of(authenticator, &gate, "ann", NULL), MQTT_BAD_USER_NAME_OR_PASSWORD);
  assert_int_equal(atomic_load(&world.tokens), 2);
  destroy(authenticator, &gate);
}

static void a_wrong_token_is_not_tried_as_a_password(void **state)
{
  (void)state;
  struct gate gate = GATE(AUTH_PASSWORD, AUTH_JWT);
  struct authenticator *authenticator = create(0);
  assert_int_equal(reason_of(authenticator, &gate, "ann", "token:"), MQTT_BAD_USER_NAME_OR_PASSWORD);
  assert_int_equal(atomic_load(&world.hashes), 0);
  assert_int_equal(reason_of(authenticator, &gate, "ann", "token:ann:9"), MQTT_SUCCESS);
  assert_int_equal(reason_of(authenticator, &gate, "ann", "right"), MQTT_SUCCESS);
  assert_int_equal(atomic_load(&world.hashes), 1);

  // ... unless there is nothing else to take it for.
  struct gate passwords_alone = GATE(AUTH_PASSWORD);
  assert_int_equal(reason_of(authenticator, &passwords_alone, "ann", "token:"), MQTT_BAD_USER_NAME_OR_PASSWORD);
  assert_int_equal(atomic_load(&world.hashes), 2);
  destroy(authenticator, &gate);
}

// ---- Exchanges

static void an_exchange_goes_back_and_forth(void **state)
{
  (void)state;
  struct gate gate = GATE(AUTH_CERT, AUTH_SCRAM);
  struct authenticator *authenticator = create(0);
  struct authentication *first = step("SCRAM-SHA-256", "n=ann", NULL, NULL);
  answer_from(authenticator, &gate, first, "192.0.2.1:5");
  assert_int_equal(first->reason, MQTT_CONTINUE_AUTHENTICATION);
  assert_memory_equal(first->answer, "challenge", 9);
  assert_null(first->identity);
  struct enhanced *exchange = first->enhanced;
  assert_non_null(exchange);
  first->enhanced = NULL;
  authentication_free(first);
  assert_int_equal(counters(authenticator).accepted[AUTH_SCRAM], 0);

  struct authentication *second = step("SCRAM-SHA-256", "p=right", exchange, NULL);
  answer_from(authenticator, &gate, second, "192.0.2.1:5");
  assert_int_equal(second->reason, MQTT_SUCCESS);
  assert_null(second->enhanced);
  assert_memory_equal(second->answer, "verified", 8);
  assert_string_equal(method_of(second), "scram");
  assert_true(span_equal(second->identity->user, span_text("ann")));
  assert_int_equal(second->identity->group_count, 2);
  authentication_free(second);
  assert_int_equal(counters(authenticator).accepted[AUTH_SCRAM], 1);
  destroy(authenticator, &gate);
}

// One exchange from the start to its end.
static enum mqtt_reason exchange_from(struct authenticator *authenticator, struct gate *gate, const char *first_data,
                                      const char *second_data, const char *again)
{
  struct authentication *asked = step("SCRAM-SHA-256", first_data, NULL, again);
  answer_from(authenticator, gate, asked, "192.0.2.1:5");
  struct enhanced *exchange = asked->enhanced;
  asked->enhanced = NULL;
  enum mqtt_reason reason = asked->reason;
  authentication_free(asked);
  if (reason != MQTT_CONTINUE_AUTHENTICATION) {
    assert_null(exchange);
    return reason;
  }
  asked = step("SCRAM-SHA-256", second_data, exchange, again);
  answer_from(authenticator, gate, asked, "192.0.2.1:5");
  assert_null(asked->enhanced);
  reason = asked->reason;
  assert_true((reason == MQTT_SUCCESS) == (asked->answer != NULL));
  assert_true((reason == MQTT_SUCCESS) == (asked->identity != NULL));
  authentication_free(asked);
  return reason;
}

static void an_exchange_that_fails_is_over(void **state)
{
  (void)state;
  struct gate gate = GATE(AUTH_SCRAM);
  struct authenticator *authenticator = create(0);
  assert_int_equal(exchange_from(authenticator, &gate, "nonsense", "", NULL), MQTT_NOT_AUTHORIZED);
  assert_int_equal(exchange_from(authenticator, &gate, "n=ann", "p=wrong", NULL), MQTT_NOT_AUTHORIZED);
  assert_int_equal(exchange_from(authenticator, &gate, "n=ann", "p=right", NULL), MQTT_SUCCESS);
  destroy(authenticator, &gate);
}

static void a_client_that_is_in_stays_who_it_is(void **state)
{
  (void)state;
  struct gate gate = GATE(AUTH_SCRAM);
  struct authenticator *authenticator = create(0);
  assert_int_equal(exchange_from(authenticator, &gate, "n=ann", "p=right", "ann"), MQTT_SUCCESS);
  assert_int_equal(exchange_from(authenticator, &gate, "n=bob", "p=right", "ann"), MQTT_NOT_AUTHORIZED);
  assert_int_equal(exchange_from(authenticator, &gate, "n=ann", "p=right", ""), MQTT_NOT_AUTHORIZED);
  destroy(authenticator, &gate);
}

static void unknown_methods_and_none_at_all_are_told_so(void **state)
{
  (void)state;
  struct gate gate = GATE(AUTH_SCRAM), without = GATE(AUTH_PASSWORD);
  without.anonymous = true;
  struct authenticator *authenticator = create(0);
  struct authentication *asked = step("KERBEROS", "", NULL, NULL);
  assert_true(ask_from(authenticator, &gate, asked, "192.0.2.1:5"));
  assert_int_equal(asked->reason, MQTT_BAD_AUTHENTICATION_METHOD);
  authentication_free(asked);
  asked = step("SCRAM-SHA-256", "n=ann", NULL, NULL);
  assert_true(ask_from(authenticator, &without, asked, "192.0.2.1:5"));
  assert_int_equal(asked->reason, MQTT_BAD_AUTHENTICATION_METHOD);
  authentication_free(asked);
  assert_int_equal(reason_of(authenticator, &gate, "ann", "right"), MQTT_BAD_AUTHENTICATION_METHOD);
  asked = question("ann", "right");
  asked->version = MQTT_3_1_1;
  assert_true(ask_from(authenticator, &gate, asked, "192.0.2.1:5"));
  assert_int_equal(asked->reason, MQTT_NOT_AUTHORIZED);
  authentication_free(asked);
  assert_int_equal(counters(authenticator).refused[AUTH_REFUSED_METHOD], 3);
  destroy(authenticator, &gate);
}

// ---- Guessing

static void who_guesses_waits_and_nothing_is_hashed_meanwhile(void **state)
{
  (void)state;
  struct gate gate = GATE(AUTH_PASSWORD);
  struct authenticator *authenticator = create(0);
  for (unsigned i = 0; i < BACKOFF_FREE_USER + 1; i++)
    assert_int_equal(reason_of(authenticator, &gate, "ann", "wrong"), MQTT_BAD_USER_NAME_OR_PASSWORD);
  for (unsigned i = 0; i < 100; i++)
    assert_int_equal(reason_of(authenticator, &gate, "ann", "right"), MQTT_CONNECTION_RATE_EXCEEDED);
  struct authentication *old = question("ann", "right");
  old->version = MQTT_3_1_1;
  assert_true(ask_from(authenticator, &gate, old, "192.0.2.1:5"));
  assert_int_equal(old->reason, MQTT_SERVER_UNAVAILABLE);  // which has a return code
  authentication_free(old);
  assert_int_equal(atomic_load(&world.hashes), BACKOFF_FREE_USER + 1);
  assert_int_equal(counters(authenticator).refused[AUTH_REFUSED_BACKOFF], 101);
  assert_int_equal(counters(authenticator).backoff_entries, 2);

  // Not so for others, there or elsewhere, or for the same user elsewhere.
  assert_int_equal(reason_of(authenticator, &gate, "bob", "right"), MQTT_SUCCESS);
  assert_int_equal(reason_from(authenticator, &gate, "ann", "right", "192.0.2.2:5"), MQTT_SUCCESS);

  atomic_fetch_add(&mono_ms, BACKOFF_FIRST_MS - 1);
  assert_int_equal(reason_of(authenticator, &gate, "ann", "right"), MQTT_CONNECTION_RATE_EXCEEDED);
  atomic_fetch_add(&mono_ms, 1);
  assert_int_equal(reason_of(authenticator, &gate, "ann", "right"), MQTT_SUCCESS);
  assert_int_equal(reason_of(authenticator, &gate, "ann", "wrong"), MQTT_BAD_USER_NAME_OR_PASSWORD);
  assert_int_equal(reason_of(authenticator, &gate, "ann", "right"), MQTT_SUCCESS);
  destroy(authenticator, &gate);
}

static void tokens_and_exchanges_are_guesses_too(void **state)
{
  (void)state;
  struct gate gate = GATE(AUTH_JWT, AUTH_SCRAM);
  struct authenticator *authenticator = create(0);
  for (unsigned i = 0; i < BACKOFF_FREE_USER + 1; i++) {
    assert_int_equal(reason_of(authenticator, &gate, NULL, "token:"), MQTT_BAD_USER_NAME_OR_PASSWORD);
    assert_int_equal(exchange_from(authenticator, &gate, "n=ann", "p=wrong", NULL), MQTT_NOT_AUTHORIZED);
  }
  unsigned tokens = atomic_load(&world.tokens), steps = atomic_load(&world.steps);
  assert_int_equal(reason_of(authenticator, &gate, NULL, "token:eve:9"), MQTT_CONNECTION_RATE_EXCEEDED);
  assert_int_equal(atomic_load(&world.tokens), tokens);
  // Who it is in an exchange comes with its first step; there it ends.
  assert_int_equal(exchange_from(authenticator, &gate, "n=ann", "p=right", NULL), MQTT_CONNECTION_RATE_EXCEEDED);
  assert_int_equal(atomic_load(&world.steps), steps + 1);
  assert_int_equal(exchange_from(authenticator, &gate, "n=bob", "p=right", NULL), MQTT_SUCCESS);
  destroy(authenticator, &gate);
}

static void certificates_are_no_guesses(void **state)
{
  (void)state;
  struct gate gate = GATE(AUTH_CERT, AUTH_PASSWORD);
  struct authenticator *authenticator = create(0);
  for (unsigned i = 0; i < 30; i++) (void)reason_of(authenticator, &gate, "ann", "wrong");
  struct authentication *asked = ask_with_certificate(authenticator, &gate, NULL, NULL);
  assert_int_equal(asked->reason, MQTT_SUCCESS);
  authentication_free(asked);
  gate.identity = (char[]){"cert.san_dns"};
  for (unsigned i = 0; i < 30; i++) {
    asked = ask_with_certificate(authenticator, &gate, NULL, NULL);
    assert_int_equal(asked->reason, MQTT_NOT_AUTHORIZED);
    authentication_free(asked);
  }
  destroy(authenticator, &gate);
}

static void many_at_once_are_stopped_by_the_first_that_are_wrong(void **state)
{
  (void)state;
  enum { GUESSES = 40 };
  struct gate gate = GATE(AUTH_PASSWORD);
  struct authenticator *authenticator = create(0);
  world.closed = true;
  struct authentication *asked[GUESSES];
  for (unsigned i = 0; i < GUESSES; i++) {
    asked[i] = question("ann", "wrong");
    assert_false(ask_from(authenticator, &gate, asked[i], "192.0.2.1:5"));
  }
  for (unsigned i = 0; i < GUESSES; i++) sem_post(&world.pass);
  for (unsigned i = 0; i < GUESSES; i++) {
    wait_for(&news);
    struct authentication *answered = authenticator_take(authenticator, 0);
    assert_ptr_equal(answered, asked[i]);
    assert_int_equal(answered->reason,
                     i <= BACKOFF_FREE_USER ? MQTT_BAD_USER_NAME_OR_PASSWORD : MQTT_CONNECTION_RATE_EXCEEDED);
    authentication_free(answered);
  }
  assert_int_equal(atomic_load(&world.hashes), BACKOFF_FREE_USER + 1);
  destroy(authenticator, &gate);
}

// ---- Queues

// `count` passwords of users "<prefix>0" and so on. The first of all is in the hands of the thread when this returns.
static void fill(struct authenticator *authenticator, struct gate *gate, const char *prefix, const char *address,
                 unsigned count, bool first)
{
  for (unsigned i = 0; i < count; i++) {
    char user[16];
    snprintf(user, sizeof user, "%s%u", prefix, i);
    assert_false(ask_from(authenticator, gate, question(user, "right"), address));
    if (first && i == 0) wait_for(&world.inside);
  }
}

static void take_all(struct authenticator *authenticator, unsigned count)
{
  for (unsigned i = 0; i < count; i++) sem_post(&world.pass);
  for (unsigned i = 0; i < count; i++) {
    wait_for(&news);
    authentication_free(authenticator_take(authenticator, 0));
  }
}

// A client identifier is for anybody to choose.
static void a_token_forgives_no_guesses_at_a_user(void **state)
{
  (void)state;
  struct gate gate = GATE(AUTH_PASSWORD, AUTH_JWT);
  struct authenticator *authenticator = create(0);
  for (unsigned i = 0; i < 3; i++)
    assert_int_equal(reason_of(authenticator, &gate, "client", "wrong"), MQTT_BAD_USER_NAME_OR_PASSWORD);
  assert_int_equal(reason_of(authenticator, &gate, NULL, "token:eve:60"), MQTT_SUCCESS);  // of the client "client"
  assert_int_equal(reason_of(authenticator, &gate, "client", "wrong"), MQTT_BAD_USER_NAME_OR_PASSWORD);
  assert_int_equal(reason_of(authenticator, &gate, "client", "wrong"), MQTT_CONNECTION_RATE_EXCEEDED);
  assert_int_equal(reason_of(authenticator, &gate, NULL, "token:eve:60"), MQTT_SUCCESS);
  assert_int_equal(reason_of(authenticator, &gate, "client", "right"), MQTT_CONNECTION_RATE_EXCEEDED);
  // Wrong tokens without a user name are counted, too.
  for (unsigned i = 0; i < 4; i++)
    assert_int_equal(reason_of(authenticator, &gate, NULL, "token:"), MQTT_BAD_USER_NAME_OR_PASSWORD);
  assert_int_equal(reason_of(authenticator, &gate, NULL, "token:eve:60"), MQTT_CONNECTION_RATE_EXCEEDED);
  destroy(authenticator, &gate);
}

static void full_queues_are_busy(void **state)
{
  (void)state;
  struct gate gate = GATE(AUTH_PASSWORD, AUTH_JWT);
  struct authenticator *authenticator = create(8);
  world.closed = true;
  fill(authenticator, &gate, "a", "192.0.2.1:5", 5, true);  // one is being hashed, half of the queue is taken
  assert_int_equal(counters(authenticator).waiting, 4);
  assert_int_equal(reason_from(authenticator, &gate, "ann", "right", "192.0.2.1:6"), MQTT_SERVER_BUSY);
  fill(authenticator, &gate, "b", "192.0.2.2:5", 4, false);
  assert_int_equal(reason_from(authenticator, &gate, "ann", "right", "192.0.2.3:6"), MQTT_SERVER_BUSY);
  assert_int_equal(counters(authenticator).refused[AUTH_REFUSED_BUSY], 2);
  assert_int_equal(counters(authenticator).waiting, 8);
  // What costs nothing, and what is quick, goes past.
  assert_int_equal(reason_from(authenticator, &gate, NULL, NULL, "192.0.2.3:6"), MQTT_NOT_AUTHORIZED);
  struct authentication *asked = question(NULL, "token:ann:60");
  assert_false(ask_from(authenticator, &gate, asked, "192.0.2.1:5"));
  wait_for(&news);
  assert_ptr_equal(authenticator_take(authenticator, 0), asked);
  assert_int_equal(asked->reason, MQTT_SUCCESS);
  authentication_free(asked);
  take_all(authenticator, 9);
  assert_int_equal(counters(authenticator).accepted[AUTH_PASSWORD], 9);
  assert_int_equal(reason_from(authenticator, &gate, NULL, NULL, "192.0.2.3:6"), MQTT_NOT_AUTHORIZED);
  destroy(authenticator, &gate);
}

static void addresses_take_turns(void **state)
{
  (void)state;
  static const char *const expected[] = {"a0", "a1", "b0", "c0", "a2", "b1", "a3"};
  struct gate gate = GATE(AUTH_PASSWORD);
  struct authenticator *authenticator = create(0);
  world.closed = true;
  fill(authenticator, &gate, "a", "192.0.2.1:5", 4, true);
  fill(authenticator, &gate, "b", "192.0.2.2:5", 2, false);
  fill(authenticator, &gate, "c", "192.0.2.3:5", 1, false);
  take_all(authenticator, 7);
  for (unsigned i = 0; i < 7; i++) assert_string_equal(world.order[i], expected[i]);
  destroy(authenticator, &gate);
}

static void who_has_waited_too_long_is_not_worked_for(void **state)
{
  (void)state;
  struct gate gate = GATE(AUTH_PASSWORD);
  struct authenticator *authenticator = create(0);
  authenticator_set_patience(authenticator, 2000);
  world.closed = true;
  fill(authenticator, &gate, "a", "192.0.2.1:5", 1, true);
  struct authentication *late = question("late", "right"), *in_time = question("intime", "right");
  assert_false(ask_from(authenticator, &gate, late, "192.0.2.1:5"));
  atomic_fetch_add(&mono_ms, 1);
  assert_false(ask_from(authenticator, &gate, in_time, "192.0.2.1:5"));
  atomic_fetch_add(&mono_ms, 2000);
  sem_post(&world.pass);
  sem_post(&world.pass);
  for (unsigned i = 0; i < 3; i++) {
    wait_for(&news);
    struct authentication *answered = authenticator_take(authenticator, 0);
    assert_int_equal(answered->reason, answered == late ? MQTT_SERVER_BUSY : MQTT_SUCCESS);
    authentication_free(answered);
  }
  assert_int_equal(atomic_load(&world.hashes), 2);
  destroy(authenticator, &gate);
}

static void what_is_not_taken_is_freed_at_the_end(void **state)
{
  (void)state;
  struct gate gate = GATE(AUTH_PASSWORD, AUTH_JWT, AUTH_SCRAM);
  struct authenticator *authenticator = create(0);
  // One that is answered, an exchange that goes on, one that is being hashed, and several that wait.
  assert_false(ask_from(authenticator, &gate, question(NULL, "token:ann:60"), "192.0.2.1:5"));
  wait_for(&news);
  assert_false(ask_from(authenticator, &gate, step("SCRAM-SHA-256", "n=ann", NULL, NULL), "192.0.2.1:5"));
  wait_for(&news);
  assert_true(authenticator_answered(authenticator, 0));
  world.closed = true;
  fill(authenticator, &gate, "a", "192.0.2.1:5", 3, true);
  fill(authenticator, &gate, "b", "192.0.2.2:5", 3, false);
  sem_post(&world.pass);
  wait_for(&news);  // the first is answered, the next may or may not have begun
  for (unsigned i = 0; i < 6; i++) sem_post(&world.pass);
  destroy(authenticator, &gate);
  authenticator_destroy(NULL);
}

static unsigned threads(void)
{
  unsigned count = 0;
  DIR *tasks = opendir("/proc/self/task");
  assert_non_null(tasks);
  while (readdir(tasks)) count++;
  closedir(tasks);
  return count;
}

static void threads_start_when_there_is_work_for_them(void **state)
{
  (void)state;
  struct gate gate = GATE(AUTH_CERT, AUTH_PASSWORD, AUTH_JWT);
  struct authenticator *authenticator = create(0);
  unsigned before = threads();
  gate.anonymous = true;
  assert_int_equal(reason_of(authenticator, &gate, NULL, NULL), MQTT_SUCCESS);
  authentication_free(ask_with_certificate(authenticator, &gate, NULL, NULL));
  assert_int_equal(threads(), before);
  assert_int_equal(reason_of(authenticator, &gate, "ann", "right"), MQTT_SUCCESS);
  assert_int_equal(threads(), before + 1);
  assert_int_equal(reason_of(authenticator, &gate, "ann", "token:ann:60"), MQTT_SUCCESS);
  assert_int_equal(threads(), before + 2);
  assert_int_equal(reason_of(authenticator, &gate, "ann", "right"), MQTT_SUCCESS);
  assert_int_equal(threads(), before + 2);
  destroy(authenticator, &gate);
}

static void refusals_have_names(void **state)
{
  (void)state;
  for (enum auth_refusal i = 0; i < AUTH_REFUSALS; i++) {
    assert_non_null(auth_refusal_name(i));
    for (enum auth_refusal j = 0; j < i; j++) assert_string_not_equal(auth_refusal_name(i), auth_refusal_name(j));
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_password_makes_a_user_with_groups),
      cmocka_unit_test(wrong_passwords_and_unknown_users_are_refused_alike),
      cmocka_unit_test(half_of_a_password_is_refused_at_once),
      cmocka_unit_test(nobody_comes_in_only_where_that_is_said),
      cmocka_unit_test(a_certificate_s_name_is_the_user),
      cmocka_unit_test(the_first_method_that_applies_decides),
      cmocka_unit_test(a_pre_shared_key_s_identity_is_the_user),
      cmocka_unit_test(a_token_makes_a_user_until_it_ends),
      cmocka_unit_test(the_facts_of_a_token_and_of_a_certificate_are_both_known),
      cmocka_unit_test(a_user_name_beside_a_token_has_to_be_its_own),
      cmocka_unit_test(a_wrong_token_is_not_tried_as_a_password),
      cmocka_unit_test(an_exchange_goes_back_and_forth),
      cmocka_unit_test(an_exchange_that_fails_is_over),
      cmocka_unit_test(a_client_that_is_in_stays_who_it_is),
      cmocka_unit_test(unknown_methods_and_none_at_all_are_told_so),
      cmocka_unit_test(who_guesses_waits_and_nothing_is_hashed_meanwhile),
      cmocka_unit_test(tokens_and_exchanges_are_guesses_too),
      cmocka_unit_test(certificates_are_no_guesses),
      cmocka_unit_test(many_at_once_are_stopped_by_the_first_that_are_wrong),
      cmocka_unit_test(a_token_forgives_no_guesses_at_a_user),
      cmocka_unit_test(full_queues_are_busy),
      cmocka_unit_test(addresses_take_turns),
      cmocka_unit_test(who_has_waited_too_long_is_not_worked_for),
      cmocka_unit_test(what_is_not_taken_is_freed_at_the_end),
      cmocka_unit_test(threads_start_when_there_is_work_for_them),
      cmocka_unit_test(refusals_have_names),
  };
  return cmocka_run_group_tests_name("authenticator", tests, NULL, NULL);
}
