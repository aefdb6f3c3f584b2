#include "broker/running.h"
#include "broker/service.h"

enum status broker_open_listener(const struct listener_config *config, const struct hardening_user *user,
                                 struct listener **out, struct error *error)
{
  const struct listen_address *address = &config->address;
  struct listener_settings settings = {.url = address->text,
                                       .kind = address->kind == LISTEN_UNIX ? LISTENER_UNIX : LISTENER_TCP,
                                       .host = address->host,
                                       .port = address->port,
                                       .ipv6_only = config->ipv6_only,
                                       .unix_path = address->kind == LISTEN_UNIX ? address->path : NULL,
                                       .unix_mode = config->mode,
                                       .passed_fd = -1,
                                       .tls = config->has_tls,
                                       .websocket = address->kind == LISTEN_WEBSOCKET};
  if (address->kind == LISTEN_WEBSOCKET) settings.websocket_path = address->path;
  if (address->kind == LISTEN_SYSTEMD) {
    settings.passed_fd = service_take_socket(address->path);
    if (settings.passed_fd < 0)
      return error_set(
          error, ERR_NOT_FOUND,
          "%s: the service manager passed no socket of that name; it needs FileDescriptorName=%s in the .socket unit",
          address->text, address->path);
  }
  enum status status = listener_open(&settings, out, error);
  if (status == OK && address->kind == LISTEN_UNIX) status = hardening_give(user, address->path, error);
  return status;
}

void broker_apply_listener(const struct listener_config *config, struct listener *listener)
{
  atomic_store(&listener->anonymous, config->anonymous);
  atomic_store(&listener->proxy_protocol, config->proxy_protocol);
  atomic_store(&listener->max_connections, config->max_connections);
  atomic_store(&listener->rate, config->connection_rate);
  atomic_store(&listener->most_per_address, config->connections_per_address);
}
