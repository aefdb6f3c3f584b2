// Every directive of mosquitto.conf(5), up to Mosquitto 2.1, and what becomes of it. In the order of their names.
#include <stdint.h>

#include "cli/mosquitto_settings.h"

#define GLOBAL(field) .scope = SCOPE_GLOBAL, .offset = offsetof(struct mosquitto_settings, field)
#define LISTENER(field) .scope = SCOPE_LISTENER, .offset = offsetof(struct mosquitto_listener, field)
#define FIRST(field) .scope = SCOPE_FIRST, .offset = offsetof(struct mosquitto_listener, field)
#define SECURITY(field) .scope = SCOPE_SECURITY, .offset = offsetof(struct mosquitto_security, field)
#define TAKEN(name_, kind_, ...)                                                                                            \
  {                                                                                                                         \
    .name = name_, .fate = DIRECTIVE_TAKEN, .kind = kind_, __VA_ARGS__                                                      \
  }
#define IDLE(name_, why_)                                                                                                   \
  {                                                                                                                         \
    .name = name_, .fate = DIRECTIVE_IDLE, .why = why_                                                                      \
  }
#define LOST(name_, harmless_, why_)                                                                                        \
  {                                                                                                                         \
    .name = name_, .fate = DIRECTIVE_LOST, .harmless = harmless_, .why = why_                                               \
  }
#define REFUSED(name_, harmless_, why_)                                                                                     \
  {                                                                                                                         \
    .name = name_, .fate = DIRECTIVE_REFUSED, .harmless = harmless_, .why = why_                                            \
  }
#define BRIDGE(name_)                                                                                                       \
  {                                                                                                                         \
    .name = name_, .fate = DIRECTIVE_BRIDGE, .why = "bridges to other brokers are not there yet"                            \
  }

#define PLUGIN                                                                                                              \
  "plugins cannot be loaded: who may come in and do what has to be said by passwords, certificates, tokens and rules"
#define ENGINE "keys in hardware or behind an OpenSSL engine are not read; the key has to be a PEM file"
#define NO_DATABASE "everything that is acknowledged is on disk already, in a journal: there is no database to save at times"
#define OBSOLETE "Mosquitto ignores it too"
#define LIBWEBSOCKETS "is of the library that Mosquitto takes WebSockets from"
#define LOGS "logs go to standard error, from where the service manager takes them"

// clang-format off
const struct mosquitto_directive mosquitto_directives[] = {
    TAKEN("acl_file", KIND_TEXT, SECURITY(acl_file)),
    BRIDGE("address"),
    BRIDGE("addresses"),
    TAKEN("allow_anonymous", KIND_BOOL, SECURITY(allow_anonymous)),
    LOST("allow_duplicate_messages", "false",
         "a client with subscriptions that overlap gets a message once, with all of their identifiers"),
    REFUSED("allow_zero_length_clientid", "true", "clients without a client identifier cannot be kept out"),
    REFUSED("auth_opt_*", NULL, PLUGIN),
    REFUSED("auth_plugin", NULL, PLUGIN),
    REFUSED("auth_plugin_deny_special_chars", NULL, PLUGIN),
    LOST("auto_id_prefix", NULL, "identifiers that the broker makes up have a form of their own"),
    IDLE("autosave_interval", NO_DATABASE),
    IDLE("autosave_on_changes", NO_DATABASE),
    REFUSED("accept_protocol_versions", NULL, "versions of MQTT cannot be kept out: 3.1, 3.1.1 and 5.0 are always taken"),
    TAKEN("bind_address", KIND_TEXT, FIRST(bind_address), .opens = ""),
    REFUSED("bind_interface", NULL,
            "a listener cannot be bound to an interface; write the interface's address in \"listener\""),
    BRIDGE("bridge_*"),
    TAKEN("cafile", KIND_TEXT, LISTENER(cafile), .opens = ""),
    TAKEN("capath", KIND_TEXT, LISTENER(capath), .opens = ""),
    TAKEN("certfile", KIND_TEXT, LISTENER(certfile), .opens = ""),
    TAKEN("check_retain_source", KIND_BOOL, GLOBAL(check_retain_source)),
    TAKEN("ciphers", KIND_TEXT, LISTENER(ciphers), .opens = ""),
    TAKEN("ciphers_tls1.3", KIND_TEXT, LISTENER(ciphers_13)),
    BRIDGE("cleansession"),
    BRIDGE("clientid"),
    REFUSED("clientid_prefixes", NULL, "clients cannot be kept out by their client identifier"),
    BRIDGE("connection"),
    LOST("connection_messages", "true", "connections are logged with the other events of their level"),
    IDLE("dhparamfile", "groups for DHE are chosen by the strength of the key, 2048 bits and more"),
    REFUSED("disable_client_cert_date_checks", "false", "a certificate has to hold today"),
    REFUSED("enable_control_api", "false", PLUGIN),
    TAKEN("crlfile", KIND_TEXT, LISTENER(crlfile), .opens = ""),
    REFUSED("enable_proxy_protocol", "0", "is not read; write proxy_protocol: true to the listener by hand"),
    IDLE("ffdc_output", OBSOLETE),
    LOST("global_max_clients", "-1", "the number of sessions has no limit of its own, but their memory and their age have"),
    TAKEN("global_max_connections", KIND_NUMBER, GLOBAL(connections), .minimum = -1),
    REFUSED("global_plugin", NULL, PLUGIN),
    LOST("http_dir", NULL, "a WebSocket listener serves no files"),
    BRIDGE("idle_timeout"),
    TAKEN("include_dir", KIND_OWN),
    BRIDGE("keepalive_interval"),
    TAKEN("keyfile", KIND_TEXT, LISTENER(keyfile), .opens = ""),
    TAKEN("listener", KIND_OWN),
    TAKEN("listener_allow_anonymous", KIND_BOOL, LISTENER(security.allow_anonymous)),
    LOST("listener_auto_id_prefix", NULL, "identifiers that the broker makes up have a form of their own"),
    BRIDGE("local_cleansession"),
    BRIDGE("local_clientid"),
    BRIDGE("local_password"),
    BRIDGE("local_username"),
    TAKEN("log_dest", KIND_OWN),
    IDLE("log_facility", LOGS),
    IDLE("log_timestamp", LOGS),
    IDLE("log_timestamp_format", "log lines have a timestamp of a fixed form"),
    TAKEN("log_type", KIND_OWN),
    TAKEN("max_connections", KIND_NUMBER, LISTENER(max_connections), .minimum = -1, .opens = "-1"),
    LOST("max_inflight_bytes", "0", "what is in flight is limited by number (limits.in_flight), not by bytes"),
    TAKEN("max_inflight_messages", KIND_NUMBER, GLOBAL(in_flight), .maximum = 65535),
    TAKEN("max_keepalive", KIND_NUMBER, GLOBAL(keep_alive), .maximum = 65535),
    IDLE("max_log_entries", OBSOLETE),
    TAKEN("max_packet_size", KIND_NUMBER, GLOBAL(packet_size), .minimum = 20),
    LOST("max_qos", "2", "a listener cannot be limited to a QoS; a rule of the access control list can (qos_max)"),
    TAKEN("max_queued_bytes", KIND_NUMBER, GLOBAL(queued_bytes), .maximum = INT64_MAX),
    TAKEN("max_queued_messages", KIND_NUMBER, GLOBAL(queued_messages)),
    TAKEN("max_topic_alias", KIND_NUMBER, LISTENER(max_topic_alias), .maximum = 65535),
    LOST("max_topic_alias_broker", NULL, "limits.topic_alias holds for both ways"),
    TAKEN("memory_limit", KIND_NUMBER, GLOBAL(memory_limit), .maximum = INT64_MAX),
    TAKEN("message_size_limit", KIND_NUMBER, GLOBAL(message_size), .maximum = 268435455),
    REFUSED("mount_point", "",
            "topics of a listener cannot be put below a prefix, so that its clients would not be kept apart from "
            "the others; rules by {who: \"listener:NAME\"} can keep them apart"),
    BRIDGE("notification_topic"),
    BRIDGE("notifications"),
    BRIDGE("notifications_local_only"),
    LOST("packet_buffer_size", NULL, "packets are read into a buffer that all connections share"),
    BRIDGE("password"),
    TAKEN("password_file", KIND_TEXT, SECURITY(password_file)),
    TAKEN("per_listener_settings", KIND_OWN),
    TAKEN("persistence", KIND_BOOL, GLOBAL(persistence)),
    TAKEN("retained_persistence", KIND_BOOL, GLOBAL(persistence)),
    IDLE("persistence_file", NO_DATABASE),
    TAKEN("persistence_location", KIND_TEXT, GLOBAL(persistence_location)),
    TAKEN("persistent_client_expiration", KIND_OWN),
    IDLE("pid_file", "the service manager knows the process; no file is needed for it"),
    REFUSED("plugin", NULL, PLUGIN),
    REFUSED("plugin_load", NULL, PLUGIN),
    REFUSED("plugin_opt_*", NULL, PLUGIN),
    REFUSED("plugin_use", NULL, PLUGIN),
    TAKEN("port", KIND_NUMBER, FIRST(port_given), .minimum = 1, .maximum = 65535, .opens = ""),
    TAKEN("protocol", KIND_TEXT, LISTENER(protocol), .opens = "mqtt"),
    TAKEN("psk_file", KIND_TEXT, SECURITY(psk_file)),
    TAKEN("psk_hint", KIND_TEXT, LISTENER(psk_hint), .opens = ""),
    LOST("queue_qos0_messages", "false", "messages of QoS 0 are not kept for clients that are away"),
    BRIDGE("remote_clientid"),
    BRIDGE("remote_password"),
    BRIDGE("remote_username"),
    TAKEN("require_certificate", KIND_BOOL, LISTENER(require_certificate), .opens = "false"),
    BRIDGE("restart_timeout"),
    LOST("retain_available", "true",
            "retained messages cannot be switched off; a rule of the access control list can (retain: never)"),
    LOST("retain_expiry_interval", "0", "retained messages have no age of their own, but the expiry that they come with"),
    IDLE("retry_interval", OBSOLETE),
    BRIDGE("round_robin"),
    IDLE("set_tcp_nodelay", "sockets never wait to fill a packet (TCP_NODELAY)"),
    TAKEN("socket_domain", KIND_TEXT, LISTENER(socket_domain), .opens = ""),
    BRIDGE("start_type"),
    IDLE("store_clean_interval", OBSOLETE),
    TAKEN("sys_interval", KIND_NUMBER, GLOBAL(sys_interval), .maximum = 65535),
    BRIDGE("threshold"),
    REFUSED("tls_engine", NULL, ENGINE),
    REFUSED("tls_engine_kpass_sha1", NULL, ENGINE),
    REFUSED("tls_keyform", "pem", ENGINE),
    TAKEN("tls_version", KIND_TEXT, LISTENER(tls_version)),
    BRIDGE("topic"),
    IDLE("trace_level", OBSOLETE),
    IDLE("trace_output", OBSOLETE),
    BRIDGE("try_private"),
    LOST("upgrade_outgoing_qos", "false",
            "MQTT forbids it: a message is delivered with the QoS that it was published with, at most"),
    TAKEN("use_identity_as_username", KIND_BOOL, LISTENER(use_identity), .opens = "false"),
    REFUSED("use_subject_as_username", "false",
            "a whole subject is no user name here; use_identity_as_username takes its common name, "
            "and identity: \"{cert.ou}-{cert.cn}\" can put several fields together"),
    REFUSED("use_username_as_clientid", "false",
            "client identifiers are taken as they come; a rule by {who: \"client:NAME\"} can tie them"),
    TAKEN("user", KIND_TEXT, GLOBAL(user)),
    BRIDGE("username"),
    IDLE("websockets_headers_size", LIBWEBSOCKETS),
    IDLE("websockets_log_level", LIBWEBSOCKETS),
    REFUSED("websockets_origin", NULL, "web pages cannot be kept out by their origin"),
};
// clang-format on
const size_t mosquitto_directive_count = sizeof mosquitto_directives / sizeof mosquitto_directives[0];
