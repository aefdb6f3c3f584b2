// `skerry acl`: says what an access control list decides, and by which rule; and what is wrong in one. Asks no broker.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "auth/acl_file.h"
#include "auth/passwords.h"
#include "broker/config.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "core/acl.h"
#include "mqtt/topic.h"

enum { MAX_FACTS = 64, MAX_GROUPS = 64, MAX_RULE_LINE = 1000 };

#define complain(...) option_complain("acl", __VA_ARGS__)

static const char installed_configuration[] = "/etc/skerry/skerry.yaml";

struct acl_options {
  const char *config, *list;  // where the list is
  bool shadow;                // of the configuration: the list on trial
  const char *user, *client_id, *listener;
  struct option_texts groups;
  struct passwords *passwords;  // NULL, or whose groups these are
  struct identity_fact facts[MAX_FACTS];
  char *names[MAX_FACTS];  // of the facts
  size_t fact_count;
  uint64_t qos;
  bool retain;
};

// ---- Options

static enum status add_group(void *target, struct option_words *words, struct error *error)
{
  struct acl_options *options = target;
  const char *name = option_word(words);
  if (!*name) return error_set(error, ERR_INVALID, "needs NAME behind it");
  return option_texts_add(&options->groups, name, MAX_GROUPS, error);
}

// "cn=pump-7" is the fact "cert.cn".
static enum status add_fact(struct acl_options *options, const char *kind, const char *word, struct error *error)
{
  const char *equals = strchr(word, '=');
  if (!equals || equals == word) return error_set(error, ERR_INVALID, "needs NAME=VALUE behind it");
  if (options->fact_count == MAX_FACTS) return error_set(error, ERR_INVALID, "at most %d are possible", MAX_FACTS);
  size_t prefix = strlen(kind);
  if (strncmp(word, kind, prefix) == 0) prefix = 0;  // the whole name was written
  char *name = NULL;
  if (asprintf(&name, "%.*s%.*s", (int)prefix, kind, (int)(equals - word), word) < 0)
    return error_set(error, ERR_NO_MEMORY, "out of memory");
  options->names[options->fact_count] = name;
  options->facts[options->fact_count++] = (struct identity_fact){.name = span_text(name), .value = span_text(equals + 1)};
  return OK;
}

static enum status add_certificate(void *target, struct option_words *words, struct error *error)
{
  return add_fact(target, "cert.", option_word(words), error);
}

static enum status add_claim(void *target, struct option_words *words, struct error *error)
{
  return add_fact(target, "jwt.", option_word(words), error);
}

#define FIELD(name) offsetof(struct acl_options, name)

static const struct option list_rows[] = {
    {0, "acl", "FILE", "The list: our own form, or Mosquitto's acl_file.", OPTION_TEXT, FIELD(list), 0, 0, NULL},
    {'c', "config", "FILE", "The broker's configuration, which names or holds the list.\nDefault: /etc/skerry/skerry.yaml.",
     OPTION_TEXT, FIELD(config), 0, 0, NULL},
    {0, "shadow", NULL, "With --config: the list on trial (acl_shadow).", OPTION_FLAG, FIELD(shadow), 0, 0, NULL},
};

static const struct option client_rows[] = {
    {'u', "user", "NAME", "Its user name. Without one it is anonymous.", OPTION_TEXT, FIELD(user), 0, 0, NULL},
    {'i', "client", "ID", "Its client identifier.", OPTION_TEXT, FIELD(client_id), 0, 0, NULL},
    {0, "group", "NAME",
     "A group that it is in; may be repeated. Without one: those of the\nuser in the configuration's password file.",
     OPTION_APPLY, 0, 0, 0, add_group},
    {0, "cert", "FIELD=VALUE", "A field of its certificate, cn=pump-7 for example; may be repeated.", OPTION_APPLY, 0, 0, 0,
     add_certificate},
    {0, "jwt", "CLAIM=VALUE", "A claim of its token; may be repeated.", OPTION_APPLY, 0, 0, 0, add_claim},
    {0, "listener", "NAME", "The listener it has come by: its name, or else its URL.", OPTION_TEXT, FIELD(listener), 0, 0,
     NULL},
};

static const struct option request_rows[] = {
    {'q', "qos", "0|1|2", "The QoS of the PUBLISH or SUBSCRIBE. Default: 0.", OPTION_UINT, FIELD(qos), 0, 2, NULL},
    {'r', "retain", NULL, "The PUBLISH has RETAIN.", OPTION_FLAG, FIELD(retain), 0, 0, NULL},
};

// ---- The list

static void print_problems(const char *file, enum status status, char **problems, size_t count)
{
  for (size_t i = 0; i < count; i++) {
    fprintf(stderr, "%s\n", problems[i]);
    free(problems[i]);
  }
  free(problems);
  if (count == 0) complain("%s: %s", file, status_name(status));
}

static enum status load_file(const char *path, struct acl **out)
{
  char **problems = NULL;
  size_t count = 0;
  enum status status = acl_file_load(path, out, &problems, &count);
  if (status) print_problems(path, status, problems, count);
  return status;
}

// ---- Groups, as the broker finds them

static bool is_listener(const struct acl_options *options, const struct listener_config *listener)
{
  return !options->listener || strcmp(options->listener, config_listener_name(listener)) == 0 ||
         strcmp(options->listener, listener->address.text) == 0;
}

// The password file of the listener by which the client comes; *out is NULL when it has none.
static enum status find_passwords(const struct acl_options *options, const struct config *config, const char **out)
{
  *out = NULL;
  for (size_t i = 0; i < config->listener_count; i++) {
    const struct listener_config *listener = &config->listeners[i];
    bool uses = config_has_method(listener, AUTH_PASSWORD) || config_has_method(listener, AUTH_SCRAM);
    if (!uses || !is_listener(options, listener)) continue;
    const char *path = listener->passwords ? listener->passwords : config->auth.passwords;
    if (*out && strcmp(*out, path) != 0) {
      complain("%s: listeners have different password files; say with --listener by which one the client comes, or name its "
               "groups with --group",
               options->config);
      return ERR_INVALID;
    }
    *out = path;
  }
  return OK;
}

static bool has_token(const struct acl_options *options)
{
  for (size_t i = 0; i < options->fact_count; i++)
    if (strncmp(options->names[i], "jwt.", 4) == 0) return true;
  return false;
}

static enum status find_groups(struct acl_options *options, const struct config *config)
{
  if (!options->user || options->groups.count > 0 || has_token(options)) return OK;
  const char *path;
  enum status status = find_passwords(options, config, &path);
  if (status || !path) return status;
  struct error error = {0};
  status = passwords_load(path, &options->passwords, &error);
  if (status) {
    complain("%s; name the groups of %s with --group", error.text, options->user);
    return status;
  }
  const char *const *names = passwords_groups(options->passwords, span_text(options->user));
  for (; names && *names && status == OK; names++) status = option_texts_add(&options->groups, *names, MAX_GROUPS, &error);
  if (status) complain("%s: groups of %s: %s", path, options->user, error.text);
  return status;
}

// *out is NULL when the configuration has no list.
static enum status load_configured(struct acl_options *options, struct acl **out)
{
  struct config config = {0};
  struct diagnostics diagnostics = {0};
  const struct config_source source = {.file = options->config};
  enum status status = config_load(&source, &config, &diagnostics);
  for (size_t i = 0; i < diagnostics.count; i++) fprintf(stderr, "%s\n", diagnostics.texts[i]);
  diagnostics_deinit(&diagnostics);
  if (status) return status;
  *out = NULL;
  if (options->shadow) {
    if (config.acl_shadow)
      status = load_file(config.acl_shadow, out);
    else
      complain("%s: has no list on trial; acl_shadow names one", options->config);
    if (!config.acl_shadow) status = ERR_NOT_FOUND;
  } else if (config.acl.path) {
    status = load_file(config.acl.path, out);
  } else if (config.acl.rules) {
    char **problems = NULL;
    size_t count = 0;
    status = acl_file_parse(span_text(config.acl.rules), options->config, out, &problems, &count);
    if (status) print_problems(options->config, status, problems, count);
  }
  if (status == OK) status = find_groups(options, &config);
  if (status) {
    acl_unref(*out);
    *out = NULL;
  }
  config_deinit(&config);
  return status;
}

// ---- Saying it

// The rule's first line as it stands in its file; nothing when that cannot be read any more.
static void print_rule(const char *file, uint32_t line)
{
  FILE *in = fopen(file, "re");
  if (!in) return;
  char *text = NULL;
  size_t capacity = 0;
  ssize_t size = 0;
  for (uint32_t i = 0; i < line && size >= 0; i++) size = getline(&text, &capacity, in);
  fclose(in);
  while (size > 0 && strchr(" \t\r\n", text[size - 1])) size--;
  char *start = text;
  while (size > 0 && *start == ' ') {
    start++;
    size--;
  }
  if (size > MAX_RULE_LINE) size = MAX_RULE_LINE;
  if (size > 0) printf("  %.*s\n", (int)size, start);
  free(text);
}

static void print_decision(const struct acl_request *request, const struct acl_decision *decision)
{
  printf("%s: ", decision->allowed ? "allowed" : "denied");
  if (!decision->matched) {
    printf("no rule matches\n");
    return;
  }
  if (decision->allowed && request->verb == ACL_SUBSCRIBE && decision->qos_max < request->qos)
    printf("with QoS %u at most, ", decision->qos_max);
  if (decision->line == 0) {
    printf("%s, as Mosquitto does without a line for it\n", decision->file);
    return;
  }
  printf("%s:%u\n", decision->file, decision->line);
  print_rule(decision->file, decision->line);
}

static bool begins_with_level(const char *topic, const char *level)
{
  size_t size = strlen(level);
  return strncmp(topic, level, size) == 0 && (topic[size] == '\0' || topic[size] == '/');
}

// Those that the client was not said to have.
static void print_groups(const struct acl_options *options)
{
  if (!options->passwords || options->groups.count == 0) return;
  printf("  %s is in", options->user);
  for (size_t i = 0; i < options->groups.count; i++) printf("%s group:%s", i ? "," : "", options->groups.at[i]);
  printf("\n");
}

static int explain(struct acl_options *options, enum acl_verb verb, const char *topic)
{
  struct acl_request request = {
      .verb = verb, .topic = span_text(topic), .qos = (uint8_t)options->qos, .retain = options->retain};
  struct mqtt_filter filter;
  bool valid = verb == ACL_SUBSCRIBE ? mqtt_filter_parse(request.topic, &filter) : mqtt_topic_valid(request.topic);
  if (!valid) {
    complain("\"%s\" is no topic %s", topic, verb == ACL_SUBSCRIBE ? "filter" : "name");
    return COMMAND_USAGE;
  }
  if (verb == ACL_SUBSCRIBE) request.topic = filter.filter;
  struct acl *acl = NULL;
  enum status status = options->list ? load_file(options->list, &acl) : load_configured(options, &acl);
  if (status) return COMMAND_USAGE;
  if (verb == ACL_PUBLISH &&
      (begins_with_level(topic, "$SYS") || begins_with_level(topic, "$skerry") || begins_with_level(topic, "$share"))) {
    printf("denied: the topic belongs to the broker\n");
    acl_unref(acl);
    return COMMAND_FAILED;
  }
  if (!acl) {
    printf("allowed: %s has no access control list\n", options->config);
    return COMMAND_OK;
  }
  struct span groups[MAX_GROUPS];
  for (size_t i = 0; i < options->groups.count; i++) groups[i] = span_text(options->groups.at[i]);
  const struct identity parts = {.user = span_text(options->user ? options->user : ""),
                                 .listener = span_text(options->listener ? options->listener : ""),
                                 .groups = groups,
                                 .group_count = options->groups.count,
                                 .facts = options->facts,
                                 .fact_count = options->fact_count};
  const struct identity *identity = identity_create(&parts);
  struct acl_view *view = NULL;
  if (identity) status = acl_view_create(acl, identity, span_text(options->client_id ? options->client_id : ""), &view);
  int exit_code = COMMAND_FAILED;
  if (view && status == OK) {
    struct acl_decision decision;
    acl_decide(view, &request, &decision);
    print_decision(&request, &decision);
    print_groups(options);
    if (decision.allowed) exit_code = COMMAND_OK;
  } else {
    complain("out of memory");
    exit_code = COMMAND_USAGE;
  }
  acl_view_free(view);
  identity_unref(identity);
  acl_unref(acl);
  return exit_code;
}

// ---- Commands

static bool verb_of(const char *name, enum acl_verb *out)
{
  static const enum acl_verb verbs[] = {ACL_PUBLISH, ACL_SUBSCRIBE, ACL_RECEIVE};
  for (size_t i = 0; i < 3; i++) {
    if (strcmp(name, acl_verb_name(verbs[i])) != 0) continue;
    *out = verbs[i];
    return true;
  }
  return false;
}

static int explain_command(struct acl_options *options, int argc, char **argv)
{
  const struct option_section sections[] = {
      OPTION_SECTION("The list", list_rows, options),
      OPTION_SECTION("The client", client_rows, options),
      OPTION_SECTION("What it does", request_rows, options),
  };
  const struct option_command command = {
      .name = "acl explain",
      .summary = "Says whether an access control list lets a client do something, and which rule decides.",
      .usage = "[--config FILE | --acl FILE] [--user NAME] [--client ID] publish|subscribe|receive TOPIC",
      .notes = "Exits with 0 when it is allowed, 1 when it is denied, 2 when the command line or the list is wrong.",
      .sections = sections,
      .section_count = sizeof sections / sizeof sections[0],
      .positional_maximum = 2,
  };
  int words = 0;
  int exit_code = options_begin(&command, argc, argv, &words);
  if (exit_code >= 0) return exit_code;
  enum acl_verb verb;
  if (words < 2 || !verb_of(argv[1], &verb)) {
    complain("say what the client does: \"skerry acl explain --acl FILE --user ann publish line/7/state\"");
    return COMMAND_USAGE;
  }
  if (options->list && (options->config || options->shadow)) {
    complain("name the list with --acl FILE, or the configuration with --config FILE, not both");
    return COMMAND_USAGE;
  }
  if (!options->list && !options->config) options->config = installed_configuration;
  return explain(options, verb, argv[2]);
}

static int check_lists(int argc, char **argv)
{
  const struct option_command command = {
      .name = "acl check",
      .summary = "Says what is wrong in access control lists, or how many rules they have.",
      .usage = "FILE...",
      .notes = "Exits with 0 when all files are in order, with 2 otherwise.",
      .positional_maximum = 1000,
  };
  int files = 0;
  int exit_code = options_begin(&command, argc, argv, &files);
  if (exit_code >= 0) return exit_code;
  if (files == 0) {
    complain("no file given; write \"skerry acl check acl.yaml\"");
    return COMMAND_USAGE;
  }
  exit_code = COMMAND_OK;
  for (int i = 1; i <= files; i++) {
    struct acl *acl = NULL;
    if (load_file(argv[i], &acl) != OK) {
      exit_code = COMMAND_USAGE;
      continue;
    }
    size_t count = acl_rule_count(acl);
    printf("%s: ok, %zu rule%s%s\n", argv[i], count, count == 1 ? "" : "s", count == 0 ? ": everything is denied" : "");
    acl_unref(acl);
  }
  return exit_code;
}

static int usage(FILE *out, int exit_code)
{
  fprintf(out, "Access control lists of a broker.\n\n"
               "Usage: skerry acl explain [OPTIONS] publish|subscribe|receive TOPIC\n"
               "       skerry acl check FILE...\n\n"
               "\"skerry acl explain --help\" shows the options.\n");
  return exit_code;
}

int acl_command(int argc, char **argv)
{
  if (argc < 2) return usage(stderr, COMMAND_USAGE);
  if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) return usage(stdout, COMMAND_OK);
  if (strcmp(argv[1], "check") == 0) return check_lists(argc - 1, argv + 1);
  if (strcmp(argv[1], "explain") != 0) {
    complain("unknown word \"%s\"; write \"skerry acl explain\" or \"skerry acl check\"", argv[1]);
    return COMMAND_USAGE;
  }
  struct acl_options options = {0};
  int exit_code = explain_command(&options, argc - 1, argv + 1);
  for (size_t i = 0; i < options.fact_count; i++) free(options.names[i]);
  passwords_unref(options.passwords);
  return exit_code;
}
