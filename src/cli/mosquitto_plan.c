#include "cli/mosquitto_plan.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// What src/tls offers; a list in Mosquitto that does not have all of these is stricter than we are.
static const char *const certificate_ciphers[] = {"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256",
                                                  "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384",
                                                  "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305",
                                                  "DHE-RSA-AES128-GCM-SHA256",     "DHE-RSA-AES256-GCM-SHA384",
                                                  "DHE-RSA-CHACHA20-POLY1305",     NULL};
static const char *const psk_ciphers[] = {"ECDHE-PSK-CHACHA20-POLY1305",
                                          "DHE-PSK-AES128-GCM-SHA256",
                                          "DHE-PSK-AES256-GCM-SHA384",
                                          "ECDHE-PSK-AES128-CBC-SHA256",
                                          "ECDHE-PSK-AES256-CBC-SHA384",
                                          "PSK-AES128-GCM-SHA256",
                                          "PSK-AES256-GCM-SHA384",
                                          "PSK-CHACHA20-POLY1305",
                                          "PSK-AES128-CCM",
                                          "PSK-AES256-CCM",
                                          "PSK-AES128-CBC-SHA256",
                                          NULL};
static const char *const tls_1_3_ciphers[] = {"TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256",
                                              "TLS_AES_256_GCM_SHA384", NULL};

struct planner {
  struct mosquitto_conf *conf;
  struct mosquitto_plan *plan;
};

void mosquitto_plan_deinit(struct mosquitto_plan *plan)
{
  for (size_t i = 0; i < plan->file_count; i++) {
    free(plan->files[i].path);
    free(plan->files[i].written);
  }
  free(plan->files);
  *plan = (struct mosquitto_plan){0};
}

// ---- Files

char *mosquitto_path(const struct mosquitto_place *place, const char *path)
{
  char *joined = NULL;
  if (path[0] == '/') return strdup(path);
  while (strncmp(path, "./", 2) == 0) path += 2;
  bool root = strcmp(place->base, "/") == 0;
  return asprintf(&joined, "%s/%s", root ? "" : place->base, path) < 0 ? NULL : joined;
}

static const struct mosquitto_file *find_path(const struct mosquitto_plan *plan, enum mosquitto_file_kind kind,
                                              const char *path)
{
  for (size_t i = 0; i < plan->file_count; i++)
    if (plan->files[i].kind == kind && strcmp(plan->files[i].path, path) == 0) return &plan->files[i];
  return NULL;
}

const char *mosquitto_plan_file(const struct mosquitto_plan *plan, const struct mosquitto_line *line)
{
  const struct mosquitto_file *file = NULL;
  char *path = mosquitto_path(plan->place, line->value);
  for (int kind = MOSQUITTO_PASSWORDS; path && !file && kind <= MOSQUITTO_PSK; kind++)
    file = find_path(plan, (enum mosquitto_file_kind)kind, path);
  free(path);
  return file ? file->written : "";
}

static char *name_copy(const struct mosquitto_plan *plan, enum mosquitto_file_kind kind)
{
  static const char *const names[] = {"passwd", "acl", "psk"};
  size_t number = 1;
  char *name = NULL;
  for (size_t i = 0; i < plan->file_count; i++) number += plan->files[i].kind == kind;
  int size = number == 1 ? asprintf(&name, "%s.txt", names[kind]) : asprintf(&name, "%s-%zu.txt", names[kind], number);
  return size < 0 ? NULL : name;
}

static void add_file(struct planner *planner, enum mosquitto_file_kind kind, struct mosquitto_setting setting)
{
  struct mosquitto_plan *plan = planner->plan;
  if (!setting.line) return;
  char *path = mosquitto_path(plan->place, setting.line->value);
  if (path && find_path(plan, kind, path)) {
    free(path);
    return;
  }
  char *written = !path ? NULL : plan->place->copies ? name_copy(plan, kind) : strdup(path);
  struct mosquitto_file *files = written ? reallocarray(plan->files, plan->file_count + 1, sizeof *files) : NULL;
  if (!files) {
    planner->conf->short_of_memory = true;
    free(path);
    free(written);
    return;
  }
  plan->files = files;
  files[plan->file_count++] = (struct mosquitto_file){.kind = kind, .line = setting.line, .path = path, .written = written};
}

// ---- TLS

static const char separators[] = ":,; ";  // OpenSSL's

static bool listed(const char *list, const char *name)
{
  size_t size = strlen(name);
  for (const char *at = list; *at;) {
    size_t word = strcspn(at, separators);
    if (word == size && strncmp(at, name, size) == 0) return true;
    at += word + (at[word] != '\0');
  }
  return false;
}

// Words that take nothing away of what we offer.
static bool harmless_word(const char *word, size_t size)
{
  static const char *const words[] = {"!aNULL",  "!eNULL", "!NULL", "!EXPORT",   "!EXP",      "!LOW",
                                      "!MEDIUM", "!MD5",   "!RC4",  "!DES",      "!3DES",     "!RC2",
                                      "!IDEA",   "!SEED",  "!SRP",  "!CAMELLIA", "@STRENGTH", NULL};
  for (size_t i = 0; words[i]; i++)
    if (strlen(words[i]) == size && strncmp(words[i], word, size) == 0) return true;
  return strchr("!-+@", word[0]) == NULL;
}

// Whether a list of OpenSSL's has all that we offer. False in case of doubt.
static bool covers(const char *list, const char *const *ours)
{
  for (const char *at = list; *at;) {
    size_t word = strcspn(at, separators);
    if (word > 0 && !harmless_word(at, word)) return false;
    at += word + (at[word] != '\0');
  }
  if (listed(list, "ALL") || listed(list, "DEFAULT") || listed(list, "HIGH")) return true;
  while (*ours && listed(list, *ours)) ours++;
  return *ours == NULL;
}

static void check_ciphers(struct planner *planner, struct mosquitto_setting setting, const char *const *ours)
{
  if (!setting.line) return;
  if (covers(setting.line->value, ours))
    mosquitto_find(planner->conf, MOSQUITTO_IDLE, setting.line,
                   "ciphers cannot be chosen; all that are offered (Mozilla's \"intermediate\" set) are in this list too");
  else
    mosquitto_find(
        planner->conf, MOSQUITTO_ERROR, setting.line,
        "ciphers cannot be chosen, and this list does not have all that are offered (Mozilla's \"intermediate\" set); "
        "remove the line when these will do");
}

static void check_tls_version(struct planner *planner, struct mosquitto_setting setting)
{
  const char *version = mosquitto_text(setting);
  if (!version || strcmp(version, "tlsv1.2") == 0 || strcmp(version, "tlsv1.3") == 0) return;
  if (strcmp(version, "tlsv1.1") == 0 || strcmp(version, "tlsv1") == 0)
    mosquitto_find(planner->conf, MOSQUITTO_LOST, setting.line,
                   "devices that know TLS 1.1 and older only are not taken; it begins at 1.2");
  else
    mosquitto_find(planner->conf, MOSQUITTO_ERROR, setting.line, "\"%.60s\" is none of tlsv1.3, tlsv1.2, tlsv1.1", version);
}

static void check_authorities(struct planner *planner, const struct mosquitto_listener *listener)
{
  if (!mosquitto_true(listener->require_certificate)) {
    const struct mosquitto_setting unused[] = {listener->cafile, listener->capath, listener->crlfile};
    for (size_t i = 0; i < 3; i++)
      if (unused[i].line)
        mosquitto_find(planner->conf, MOSQUITTO_IDLE, unused[i].line,
                       "without require_certificate Mosquitto does not ask clients for certificates");
    return;
  }
  if (listener->capath.line)
    mosquitto_find(planner->conf, MOSQUITTO_ERROR, listener->capath.line,
                   "authorities are read from one file; put them together (cat) and name that file as cafile");
  else if (!listener->cafile.line)
    mosquitto_find(planner->conf, MOSQUITTO_ERROR, listener->require_certificate.line,
                   "there is no cafile that says which certificates are good");
}

// A listener with half of what TLS needs is a plain one in Mosquitto. Nobody means that.
static void check_plain(struct planner *planner, const struct mosquitto_listener *listener)
{
  const struct mosquitto_setting settings[] = {listener->certfile,    listener->keyfile,   listener->cafile,
                                               listener->capath,      listener->crlfile,   listener->ciphers,
                                               listener->tls_version, listener->ciphers_13};
  for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
    if (!settings[i].line) continue;
    mosquitto_find(
        planner->conf, MOSQUITTO_ERROR, settings[i].line,
        "has no effect without certfile and keyfile: connections to this listener are not encrypted; add these, or "
        "remove the line");
    return;
  }
  if (mosquitto_true(listener->require_certificate))
    mosquitto_find(planner->conf, MOSQUITTO_ERROR, listener->require_certificate.line,
                   "has no effect without certfile and keyfile; add these, or remove the line");
  if (mosquitto_true(listener->use_identity))
    mosquitto_find(planner->conf, MOSQUITTO_ERROR, listener->use_identity.line,
                   "has no effect without certfile and keyfile; add these, or remove the line");
}

static bool has_certificate(const struct mosquitto_listener *listener)
{
  return listener->certfile.line && listener->keyfile.line;
}

static void check_tls(struct planner *planner, struct mosquitto_door *door)
{
  const struct mosquitto_listener *listener = door->listener;
  door->tls = has_certificate(listener) || listener->psk_hint.line;
  if (!door->tls) {
    check_plain(planner, listener);
    return;
  }
  bool psk = listener->psk_hint.line != NULL;
  if (psk && has_certificate(listener))
    mosquitto_find(planner->conf, MOSQUITTO_ERROR, listener->psk_hint.line,
                   "a listener of Mosquitto has certificates or pre-shared keys; make two listeners of this one");
  if (listener->unix_socket)
    mosquitto_find(planner->conf, MOSQUITTO_ERROR, listener->line, "a Unix socket has no TLS; remove certfile and keyfile");
  check_tls_version(planner, listener->tls_version);
  check_ciphers(planner, listener->ciphers, psk ? psk_ciphers : certificate_ciphers);
  check_ciphers(planner, listener->ciphers_13, tls_1_3_ciphers);
  check_authorities(planner, listener);
}

// ---- Who may come in

static void lets_nobody_in(struct planner *planner, const struct mosquitto_door *door)
{
  const char *why = "nobody can come in: there is no password_file, and clients without credentials are kept out; write "
                    "password_file, or allow_anonymous true";
  if (door->listener->line)
    mosquitto_find(planner->conf, MOSQUITTO_ERROR, door->listener->line, "%s", why);
  else
    mosquitto_find(planner->conf, MOSQUITTO_ERROR, door->security->allow_anonymous.line,
                   "at the default listener, port %u, %s", door->listener->port, why);
}

static void plan_certificates(struct planner *planner, struct mosquitto_door *door)
{
  door->auth = MOSQUITTO_AUTH_CERT;
  if (mosquitto_true(door->listener->require_certificate)) return;
  mosquitto_find(
      planner->conf, MOSQUITTO_ERROR, door->listener->use_identity.line,
      "lets nobody in without require_certificate, because clients are not asked for certificates; write that too, or "
      "remove the line");
}

// In Mosquitto a key only opens the connection, and a password is asked for behind it; ours is the client's name as well.
static void plan_psk(struct planner *planner, struct mosquitto_door *door)
{
  const struct mosquitto_line *line = door->listener->psk_hint.line;
  door->auth = MOSQUITTO_AUTH_PSK;
  if (!door->security->psk_file.line) {
    mosquitto_find(planner->conf, MOSQUITTO_ERROR, line, "there is no psk_file that has the keys");
  } else if (mosquitto_true(door->listener->use_identity)) {
    return;
  } else if (door->security->password_file.line && !door->anonymous) {
    mosquitto_find(
        planner->conf, MOSQUITTO_ERROR, line,
        "Mosquitto asks for a pre-shared key and for a password as well; here the key alone would let clients in. Write "
        "use_identity_as_username true when that will do");
  } else if (door->anonymous && !door->security->acl_file.line) {
    mosquitto_find(planner->conf, MOSQUITTO_NOTE, line, "the identity of the pre-shared key is the client's user name");
  } else if (door->anonymous) {
    mosquitto_find(planner->conf, MOSQUITTO_ERROR, line,
                   "the identity of the pre-shared key is the client's user name here, so that acl_file would mean "
                   "something else; write "
                   "use_identity_as_username true when that is right");
  } else {
    lets_nobody_in(planner, door);
  }
}

static void plan_auth(struct planner *planner, struct mosquitto_door *door)
{
  const struct mosquitto_setting *anonymous = &door->security->allow_anonymous;
  const struct mosquitto_listener *listener = door->listener;
  // Mosquitto 2.1 has a word for the listener beside that for all.
  if (listener->security.allow_anonymous.line) anonymous = &listener->security.allow_anonymous;
  door->anonymous = anonymous->line ? anonymous->number != 0 : listener->local_only;
  bool psk = listener->psk_hint.line && !has_certificate(listener);
  if (psk) {
    plan_psk(planner, door);
  } else if (door->tls && mosquitto_true(listener->use_identity)) {
    plan_certificates(planner, door);
  } else {
    if (door->security->password_file.line) door->auth = MOSQUITTO_AUTH_PASSWORD;
    if (!door->security->password_file.line && !door->anonymous) lets_nobody_in(planner, door);
    return;
  }
  door->anonymous = false;
}

// ---- Listeners

static void check_listener(struct planner *planner, const struct mosquitto_listener *listener)
{
  const char *protocol = mosquitto_text(listener->protocol), *domain = mosquitto_text(listener->socket_domain);
  if (protocol && strcmp(protocol, "mqtt") != 0 && strcmp(protocol, "websockets") != 0)
    mosquitto_find(planner->conf, MOSQUITTO_ERROR, listener->protocol.line, "\"%.60s\" is neither mqtt nor websockets",
                   protocol);
  if (protocol && strcmp(protocol, "websockets") == 0 && listener->unix_socket)
    mosquitto_find(planner->conf, MOSQUITTO_ERROR, listener->protocol.line,
                   "a Unix socket takes MQTT without WebSockets only");
  if (domain && strcmp(domain, "ipv4") != 0 && strcmp(domain, "ipv6") != 0)
    mosquitto_find(planner->conf, MOSQUITTO_ERROR, listener->socket_domain.line, "\"%.60s\" is neither ipv4 nor ipv6",
                   domain);
  else if (domain && listener->host && strspn(listener->host, "0123456789abcdefABCDEF.:%") != strlen(listener->host))
    mosquitto_find(planner->conf, MOSQUITTO_LOST, listener->socket_domain.line,
                   "a listener with a name listens on the address that the name has; write the address instead");
  if (listener->max_connections.line && listener->max_connections.number == 0)
    mosquitto_find(planner->conf, MOSQUITTO_ERROR, listener->max_connections.line, "lets nobody in; remove the listener");
  if (!listener->line && listener->opened && planner->plan->settings->listener_count > 1)
    mosquitto_find(
        planner->conf, MOSQUITTO_NOTE, NULL,
        "%s: what stands in front of the first \"listener\", or in an included file without one, opens the default "
        "listener on port %u as well",
        planner->conf->lines[0].file, listener->port);
}

static void plan_listener(struct planner *planner, const struct mosquitto_listener *listener)
{
  const struct mosquitto_settings *settings = planner->plan->settings;
  struct mosquitto_door *door = &planner->plan->doors[planner->plan->door_count++];
  *door = (struct mosquitto_door){
      .listener = listener, .security = mosquitto_true(settings->per_listener) ? &listener->security : &settings->security};
  check_listener(planner, listener);
  check_tls(planner, door);
  plan_auth(planner, door);
  if (door->auth == MOSQUITTO_AUTH_PASSWORD) add_file(planner, MOSQUITTO_PASSWORDS, door->security->password_file);
  if (door->auth == MOSQUITTO_AUTH_PSK) add_file(planner, MOSQUITTO_PSK, door->security->psk_file);
}

// There is one list for all listeners here.
static void plan_acl(struct planner *planner)
{
  struct mosquitto_plan *plan = planner->plan;
  size_t with = 0;
  bool differ = false;
  for (size_t i = 0; i < plan->door_count; i++) {
    const struct mosquitto_line *line = plan->doors[i].security->acl_file.line;
    if (!line) continue;
    with++;
    if (plan->acl && strcmp(plan->acl->value, line->value) != 0) {
      differ = true;
      mosquitto_find(
          planner->conf, MOSQUITTO_ERROR, line,
          "there is one access control list for all listeners, and line %u of %s names another; put them together, with "
          "rules by {who: \"listener:NAME\"} where they differ",
          plan->acl->number, plan->acl->file);
    }
    if (!plan->acl) plan->acl = line;
  }
  if (!plan->acl) return;
  if (with < plan->door_count && !differ)
    mosquitto_find(
        planner->conf, MOSQUITTO_ERROR, plan->acl,
        "there is one access control list for all listeners, and others have none here; give it to all of them, or put "
        "their clients into it");
  add_file(planner, MOSQUITTO_ACL, (struct mosquitto_setting){.line = plan->acl});
  const struct mosquitto_setting *retain = &plan->settings->check_retain_source;
  const char *why =
      "Mosquitto asks again, when it hands out a retained message, whether its publisher may still publish there; "
      "here, what was retained stays";
  if (!retain->line) mosquitto_find(planner->conf, MOSQUITTO_NOTE, plan->acl, "%s (check_retain_source)", why);
  if (mosquitto_true(*retain))
    mosquitto_find(planner->conf, MOSQUITTO_ERROR, retain->line, "%s; remove the line when that will do", why);
}

void mosquitto_plan_make(struct mosquitto_conf *conf, const struct mosquitto_settings *settings,
                         const struct mosquitto_place *place, struct mosquitto_plan *out)
{
  *out = (struct mosquitto_plan){.settings = settings, .place = place};
  struct planner planner = {.conf = conf, .plan = out};
  for (size_t i = 0; i < settings->listener_count; i++)
    if (mosquitto_listener_used(&settings->listeners[i])) plan_listener(&planner, &settings->listeners[i]);
  assert(out->door_count > 0 || conf->counts[MOSQUITTO_ERROR] > 0);
  plan_acl(&planner);
  if (!settings->user.line && !place->default_user)
    mosquitto_find(
        conf, MOSQUITTO_NOTE, NULL,
        "Mosquitto becomes the user \"mosquitto\" when root starts it; should root start this broker, write broker: "
        "{user: mosquitto}");
  if (mosquitto_true(settings->persistence))
    mosquitto_find(conf, MOSQUITTO_NOTE, settings->persistence.line,
                   "what mosquitto.db holds (sessions and retained messages of the time before) is not read");
}
