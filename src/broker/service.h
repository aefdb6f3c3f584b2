// What the service manager and we tell each other: readiness (sd_notify(3)) and passed sockets (sd_listen_fds(3)). Both are
// a few lines of protocol; libsystemd would cost more memory than the whole broker when idle.
#pragma once

// Sends "READY=1" and the like to $NOTIFY_SOCKET; does nothing without one. Any thread.
void service_notify(const char *state);

// The passed socket with this name (FileDescriptorName=), or -1. Without names there is only the first socket, whatever it
// is called. The caller's own descriptor: the passed one stays open, so that a reload can take it again.
int service_take_socket(const char *name);
