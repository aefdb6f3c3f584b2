// A mosquitto.conf. What is found can be shown on a terminal. What is written is quoted, whatever was in it: our
// configuration reads it, or knows better than Mosquitto what a host, a path or a clash of listeners is; and when it is
// read, nobody comes in who was kept out before.
#include <stdlib.h>
#include <string.h>

#include "broker/config.h"
#include "cli/mosquitto_plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool condition)
{
  if (!condition) abort();
}

static void check_findings(const struct mosquitto_conf *conf)
{
  for (size_t i = 0; i < conf->finding_count; i++) {
    check(conf->findings[i].text[0] != '\0');
    for (const char *at = conf->findings[i].text; *at; at++) check((unsigned char)*at >= ' ' && *at != 0x7f);
  }
}

static void check_listener(const struct mosquitto_plan *plan, const struct listener_config *listener)
{
  bool allowed = false, passwords = false;
  for (size_t i = 0; i < plan->door_count; i++) {
    const struct mosquitto_door *door = &plan->doors[i];
    bool own = mosquitto_true(door->listener->security.allow_anonymous);
    allowed |= door->listener->local_only || own || mosquitto_true(door->security->allow_anonymous);
    passwords |= door->auth != MOSQUITTO_AUTH_NONE;
  }
  check(!listener->anonymous || allowed);
  check(listener->anonymous || listener->auth.count > 0);
  check(listener->auth.count == 0 || passwords);
}

// Without settings for each listener the last allow_anonymous holds for all of them.
static void check_anonymous(const struct mosquitto_conf *conf, const struct mosquitto_plan *plan,
                            const struct listener_config *listener)
{
  bool allowed = plan->doors[0].listener->local_only;
  for (size_t i = 0; i < conf->line_count; i++) {
    const struct mosquitto_line *line = &conf->lines[i];
    if (strcmp(line->name, "listener_allow_anonymous") == 0) return;
    if (strcmp(line->name, "allow_anonymous") == 0) allowed = strchr("t1", line->value[0]) != NULL;
  }
  if (!mosquitto_true(plan->settings->per_listener)) check(!listener->anonymous || allowed);
}

static void check_result(const struct mosquitto_conf *conf, const struct mosquitto_plan *plan, struct span text)
{
  struct config config = {0};
  struct diagnostics diagnostics = {0};
  const struct config_source source = {.file = "skerry.yaml"};
  if (config_load_text(text, &source, &config, &diagnostics) == OK) {
    for (size_t i = 0; i < config.listener_count; i++) {
      check_listener(plan, &config.listeners[i]);
      check_anonymous(conf, plan, &config.listeners[i]);
    }
    check((config.acl.path != NULL) == (plan->acl != NULL));
    check(config.acl.rules == NULL);
  }
  // Keys are ours: none of them comes out of a value.
  for (size_t i = 0; i < diagnostics.count; i++) check(strstr(diagnostics.texts[i], "unknown key") == NULL);
  config_deinit(&config);
  diagnostics_deinit(&diagnostics);
}

// The second file of two begins behind a line "\f", as an included one.
static void read_text(struct mosquitto_conf *conf, struct span text)
{
  const uint8_t *cut = text.size > 0 ? memchr(text.at, '\f', text.size) : NULL;
  struct span main_text = span_of(text.at, cut ? (size_t)(cut - text.at) : text.size);
  struct span other = cut ? span_from(text, main_text.size + 1) : (struct span){0};
  const char *name = mosquitto_conf_file(conf, "m.conf"), *other_name = mosquitto_conf_file(conf, "o.conf");
  check(name && other_name);
  unsigned number = 0, other_number = 0;
  size_t at;
  do {
    mosquitto_conf_read(conf, name, &main_text, &number, &at);
    mosquitto_conf_read(conf, other_name, &other, &other_number, NULL);
  } while (at != SIZE_MAX);
  check(main_text.size == 0 || conf->counts[MOSQUITTO_ERROR] > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  const struct mosquitto_place place = {
      .base = "/base", .default_user = size % 2 ? "nobody" : NULL, .copies = size % 3 == 0, .ipv6 = size % 5 == 0};
  struct mosquitto_conf conf = {0};
  struct mosquitto_settings *settings = calloc(1, sizeof *settings);
  struct mosquitto_plan *plan = calloc(1, sizeof *plan);
  struct buffer text = {0};
  check(settings && plan);
  read_text(&conf, span_of(data, size));
  mosquitto_settings_read(&conf, settings);
  mosquitto_plan_make(&conf, settings, &place, plan);
  if (conf.counts[MOSQUITTO_ERROR] == 0) {
    check(mosquitto_write(plan, &conf, &text) == OK);
    check_result(&conf, plan, buffer_peek(&text));
  }
  check_findings(&conf);
  buffer_deinit(&text);
  mosquitto_plan_deinit(plan);
  mosquitto_settings_deinit(settings);
  free(plan);
  free(settings);
  mosquitto_conf_deinit(&conf);
  return 0;
}
