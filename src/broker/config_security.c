// What makes a listener safe or open, as far as the configuration alone can say: which keys need which others. What is in
// the files is checked where they are read (entrance.h).
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/config.h"
#include "broker/config_schema.h"

// One listener that is looked at.
struct subject {
  struct checker *checker;
  const struct config *config;
  struct listener_config *listener;
  size_t index;
};

#define COMPLAIN(subject, key, ...)                                                                                         \
  config_complain((subject)->checker, (subject)->listener, (subject)->index, (key), __VA_ARGS__)

static bool given(const struct subject *subject, const char *name)
{
  return config_given(&subject->listener->origin, config_find_key("listeners", name));
}

// The first key below tls: that was written; NULL: none.
static const char *first_tls_key(const struct subject *subject)
{
  for (size_t i = 0; i < config_key_count; i++) {
    const struct config_key *key = &config_keys[i];
    if (strncmp(key->name, "tls.", 4) == 0 && config_given(&subject->listener->origin, key)) return key->name;
  }
  return NULL;
}

static const char *psk_of(const struct subject *subject)
{
  return subject->listener->tls.psk ? subject->listener->tls.psk : subject->config->auth.psk;
}

static void check_certificates(const struct subject *subject)
{
  const struct listener_config *listener = subject->listener;
  const struct config_certificate *main = &listener->tls.main;
  bool psk = config_has_method(listener, AUTH_PSK);
  if (main->cert && !main->key) COMPLAIN(subject, "tls.cert", "has no key; write tls: {cert: server.pem, key: server.key}");
  if (!main->cert && main->key) COMPLAIN(subject, "tls.key", "has no cert; write tls: {cert: server.pem, key: server.key}");
  if (!main->cert && main->ocsp) COMPLAIN(subject, "tls.ocsp", "is for tls.cert, which is missing; write that too");
  if (!main->cert && listener->tls.certificates.count)
    COMPLAIN(subject, "tls.certificates", "needs tls.cert for clients that name no host; write that too");
  if (!main->cert && !main->key && !psk)
    COMPLAIN(subject, "tls",
             "is needed for %.80s; write tls: {cert: server.pem, key: server.key}, or auth: [psk] for "
             "pre-shared keys alone",
             listener->address.text);
  if (!main->cert && psk && listener->tls.profile == TLS_MODERN && !psk_of(subject))
    COMPLAIN(subject, "tls.profile", "needs a certificate; write tls.cert and tls.key");
}

static void check_client_certificates(const struct subject *subject)
{
  struct listener_config *listener = subject->listener;
  if (!given(subject, "tls.client_cert") && listener->tls.client_ca) listener->tls.client_cert = TLS_CLIENT_CERT_REQUIRED;
  bool asked = listener->tls.client_cert != TLS_CLIENT_CERT_NONE;
  if (asked && !listener->tls.client_ca)
    COMPLAIN(subject, "tls.client_cert", "needs the authorities that issue such certificates; write tls.client_ca: ca.pem");
  if (!asked && listener->tls.client_ca)
    COMPLAIN(subject, "tls.client_ca", "has no effect with client_cert: none; write optional or required, or remove it");
  if (listener->tls.crl && !listener->tls.client_ca)
    COMPLAIN(subject, "tls.crl", "needs the authorities that it is of; write tls.client_ca: ca.pem");
  if (asked && !listener->tls.main.cert && config_has_method(listener, AUTH_PSK))
    COMPLAIN(subject, "tls.client_cert", "needs a certificate of the broker's own; write tls.cert and tls.key");
}

static void check_tls(const struct subject *subject)
{
  struct listener_config *listener = subject->listener;
  const char *key = first_tls_key(subject);
  bool possible = listener->address.tls || listener->address.kind == LISTEN_SYSTEMD;
  listener->has_tls = listener->address.tls || (listener->address.kind == LISTEN_SYSTEMD && key);
  if (key && !possible) {
    const char *scheme = listener->address.kind == LISTEN_WEBSOCKET ? "wss" : "mqtts";
    if (listener->address.kind == LISTEN_UNIX)
      COMPLAIN(subject, key, "unix sockets have no TLS; remove it");
    else
      COMPLAIN(subject, key, "%.80s has no TLS; write %s:// in its url", listener->address.text, scheme);
  }
  if (!listener->has_tls) return;
  check_certificates(subject);
  check_client_certificates(subject);
}

static void check_method(const struct subject *subject, enum auth_method method)
{
  const struct listener_config *listener = subject->listener;
  const struct config *config = subject->config;
  bool has_passwords = listener->passwords || config->auth.passwords;
  switch (method) {
    case AUTH_CERT:
      if (!listener->has_tls || listener->tls.client_cert == TLS_CLIENT_CERT_NONE)
        COMPLAIN(subject, "auth",
                 "cert needs certificates of clients; write tls.client_ca: ca.pem and tls.client_cert: "
                 "required (or optional)");
      return;
    case AUTH_PASSWORD:
    case AUTH_SCRAM:
      if (!has_passwords)
        COMPLAIN(subject, "auth", "%s needs the file with the passwords; write auth: {passwords: passwd.txt} at the top",
                 method == AUTH_SCRAM ? "scram" : "password");
      return;
    case AUTH_JWT:
      if (!config->auth.jwt.jwks)
        COMPLAIN(subject, "auth",
                 "jwt needs the keys that tokens are signed by; write auth: {jwt: {jwks: keys.json}} at the "
                 "top");
      return;
    case AUTH_PSK:
      if (!listener->has_tls)
        COMPLAIN(subject, "auth", "psk is a way of TLS; write mqtts:// or wss:// in its url");
      else if (!psk_of(subject))
        COMPLAIN(subject, "auth", "psk needs the file with the keys; write auth: {psk: psk.txt} at the top");
      return;
    case AUTH_METHODS: break;
  }
}

static void check_auth(const struct subject *subject)
{
  struct listener_config *listener = subject->listener;
  if (listener->identity && listener->auth.count == 0 && !given(subject, "auth"))
    listener->auth = (struct config_words){.items = {AUTH_CERT}, .count = 1};
  for (uint8_t i = 0; i < listener->auth.count; i++) check_method(subject, (enum auth_method)listener->auth.items[i]);
  if (listener->identity && !config_has_method(listener, AUTH_CERT))
    COMPLAIN(subject, "identity", "says how certificates name users; write auth: [cert], or remove it");
  if (listener->passwords && !config_has_method(listener, AUTH_PASSWORD) && !config_has_method(listener, AUTH_SCRAM))
    COMPLAIN(subject, "passwords", "is not used; write auth: [password], or remove it");
  if (listener->tls.psk && !config_has_method(listener, AUTH_PSK))
    COMPLAIN(subject, "tls.psk", "is not used; write auth: [psk], or remove it");
}

// Nobody reaches such a listener from elsewhere.
static bool closed_to_the_network(const struct listener_config *listener)
{
  return listen_address_local(&listener->address);
}

static void check_anonymous(const struct subject *subject)
{
  struct listener_config *listener = subject->listener;
  if (!given(subject, "anonymous")) listener->anonymous = listener->auth.count == 0 && closed_to_the_network(listener);
  if (listener->anonymous || listener->auth.count > 0 || closed_to_the_network(listener)) return;
  char option[CONFIG_NAME_SIZE] = "";
  if (!listener->mark.line) snprintf(option, sizeof option, " (--set listeners[%zu].anonymous=true)", subject->index);
  COMPLAIN(subject, "auth",
           "nobody can come in at %.80s; write how clients show who they are, such as auth: [%s], or "
           "anonymous: true%s to let everybody in who reaches it",
           listener->address.text, listener->has_tls && listener->tls.client_ca ? "cert" : "password", option);
}

// Names are for rules: two listeners of one name would be one there.
static void check_name(const struct subject *subject)
{
  for (size_t i = 0; i < subject->index; i++) {
    const char *name = subject->config->listeners[i].name;
    if (name && subject->listener->name && strcmp(name, subject->listener->name) == 0)
      COMPLAIN(subject, "name", "is that of listeners[%zu] too; write another", i);
  }
}

static void check_acl(struct checker *checker, const struct config *config)
{
  if (!config->acl_shadow || config->acl.path || config->acl.rules) return;
  checker->failed = true;
  const struct config_key *key = config_find_key("", "acl_shadow");
  (void)diagnostics_add(checker->diagnostics, checker->file, config->origin.marks[key - config_keys],
                        "acl_shadow: is on trial beside a list that holds; write acl too, if need be one that allows all");
}

void config_check_security(struct checker *checker, struct config *config)
{
  check_acl(checker, config);
  for (size_t i = 0; i < config->listener_count; i++) {
    const struct subject subject = {.checker = checker, .config = config, .listener = &config->listeners[i], .index = i};
    if (!subject.listener->address.text) continue;
    check_name(&subject);
    check_tls(&subject);
    check_auth(&subject);
    check_anonymous(&subject);
  }
}

// ---- Warnings

static void warn_of_listener(struct checker *checker, const struct listener_config *listener, size_t index)
{
  bool passwords = config_has_method(listener, AUTH_PASSWORD);
  if (listener->has_tls || closed_to_the_network(listener) || (!passwords && !config_has_method(listener, AUTH_JWT))) return;
  config_complain(checker, listener, index, "auth",
                  "warning: %s travel in clear to %.80s, whoever sees the packets can use them; %s",
                  passwords ? "passwords" : "tokens", listener->address.text,
                  listener->address.kind == LISTEN_SYSTEMD     ? "write tls: {cert: server.pem, key: server.key}"
                  : listener->address.kind == LISTEN_WEBSOCKET ? "write wss:// in its url, and tls"
                                                               : "write mqtts:// in its url, and tls");
}

void config_warn(const struct config *config, const char *file, struct diagnostics *out)
{
  struct checker checker = {.file = file, .diagnostics = out};
  for (size_t i = 0; i < config->listener_count; i++) warn_of_listener(&checker, &config->listeners[i], i);
}

// ---- Paths

// Takes the text's place when it is relative.
static enum status resolve(char **path, const char *file)
{
  const char *slash = strrchr(file, '/');
  if (!*path || (*path)[0] == '/' || !slash) return OK;
  char *joined = NULL;
  if (asprintf(&joined, "%.*s/%s", (int)(slash - file), file, *path) < 0) return ERR_NO_MEMORY;
  free(*path);
  *path = joined;
  return OK;
}

static enum status resolve_certificates(struct config_certificates *certificates, const char *file)
{
  enum status status = OK;
  for (size_t i = 0; i < certificates->count && status == OK; i++) {
    struct config_certificate *item = &certificates->items[i];
    status = resolve(&item->cert, file);
    if (status == OK) status = resolve(&item->key, file);
    if (status == OK) status = resolve(&item->ocsp, file);
  }
  return status;
}

static enum status resolve_all(bool listener, void *object, const char *file)
{
  enum status status = OK;
  for (size_t i = 0; i < config_key_count && status == OK; i++) {
    const struct config_key *key = &config_keys[i];
    if (config_find_section(key->section)->list != listener) continue;
    void *field = (char *)object + key->offset;
    if (key->type == CONFIG_PATH) status = resolve(field, file);
    if (key->type == CONFIG_ACL) status = resolve(&((struct config_acl *)field)->path, file);
    if (key->type == CONFIG_CERTIFICATES) status = resolve_certificates(field, file);
  }
  return status;
}

enum status config_resolve_paths(struct config *config, const char *file)
{
  if (!file) return OK;
  enum status status = resolve_all(false, config, file);
  for (size_t i = 0; i < config->listener_count && status == OK; i++)
    status = resolve_all(true, &config->listeners[i], file);
  return status;
}
