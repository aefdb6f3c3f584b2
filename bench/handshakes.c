// TLS handshakes: what they cost when nothing but the library is there, and a client that asks for many of them.
//
//   handshakes serve PORT CERT KEY              the bare accept loop: accept, SSL_accept, one read, one write, close. Until
//   it is killed. handshakes connect PORT COUNT full|resume   COUNT connections one after the other, each with an MQTT
//   CONNECT that is answered. Prints how many were
//                                               resumed.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

static const unsigned char connect_packet[] = "\x10\x17\x00\x04MQTT\x04\x02\x00\x00\x00\x0b"
                                              "bench-start";
static const unsigned char connack_packet[] = "\x20\x02\x00\x00";

static int die(const char *what)
{
  fprintf(stderr, "handshakes: %s\n", what);
  ERR_print_errors_fp(stderr);
  return EXIT_FAILURE;
}

static struct sockaddr_in address_of(const char *port)
{
  return (struct sockaddr_in){
      .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void set_on(int fd, int level, int option)
{
  int on = 1;
  setsockopt(fd, level, option, &on, sizeof on);
}

static void serve_one(SSL_CTX *context, int fd)
{
  unsigned char bytes[64];
  SSL *ssl = SSL_new(context);
  SSL_set_fd(ssl, fd);
  if (SSL_accept(ssl) == 1 && SSL_read(ssl, bytes, sizeof bytes) > 0) {
    SSL_write(ssl, connack_packet, sizeof connack_packet - 1);
    (void)SSL_read(ssl, bytes, sizeof bytes);  // until the client closes, as it does with a broker
  }
  ERR_clear_error();
  SSL_free(ssl);
}

static int serve(const char *port, const char *certificate, const char *key)
{
  SSL_CTX *context = SSL_CTX_new(TLS_server_method());
  if (SSL_CTX_use_certificate_chain_file(context, certificate) != 1 ||
      SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1)
    return die("the certificate cannot be used");
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct sockaddr_in address = address_of(port);
  set_on(listener, SOL_SOCKET, SO_REUSEADDR);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 128) != 0)
    return die("cannot listen");
  for (;;) {
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0) continue;
    set_on(fd, IPPROTO_TCP, TCP_NODELAY);
    serve_one(context, fd);
    close(fd);
  }
}

// One connection. The ticket of before goes in, the one for the next time comes out.
static bool connect_once(SSL_CTX *context, const char *port, SSL_SESSION **ticket, bool *out_resumed)
{
  struct sockaddr_in address = address_of(port);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  // Ports would run out: thousands of connections in TIME_WAIT.
  struct linger linger = {.l_onoff = 1};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
  set_on(fd, IPPROTO_TCP, TCP_NODELAY);
  SSL *ssl = SSL_new(context);
  SSL_set_fd(ssl, fd);
  if (*ticket) SSL_set_session(ssl, *ticket);
  unsigned char answer[8];
  bool fine = connect(fd, (struct sockaddr *)&address, sizeof address) == 0 && SSL_connect(ssl) == 1 &&
              SSL_write(ssl, connect_packet, sizeof connect_packet - 1) > 0 && SSL_read(ssl, answer, sizeof answer) >= 2;
  *out_resumed = SSL_session_reused(ssl);
  if (fine && ticket) {
    SSL_SESSION_free(*ticket);
    *ticket = SSL_get1_session(ssl);
  }
  SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
  SSL_free(ssl);
  close(fd);
  return fine;
}

static int connect_many(const char *port, int count, bool resume)
{
  SSL_CTX *context = SSL_CTX_new(TLS_client_method());
  SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
  SSL_SESSION *ticket = NULL;
  int resumed = 0;
  for (int i = 0; i < count; i++) {
    bool this_resumed = false;
    if (!connect_once(context, port, &ticket, &this_resumed)) return die("a connection has failed");
    resumed += this_resumed;
    if (!resume) {
      SSL_SESSION_free(ticket);
      ticket = NULL;
    }
  }
  printf("{\"connections\": %d, \"resumed\": %d}\n", count, resumed);
  SSL_SESSION_free(ticket);
  SSL_CTX_free(context);
  return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
  signal(SIGPIPE, SIG_IGN);
  if (argc == 5 && strcmp(argv[1], "serve") == 0) return serve(argv[2], argv[3], argv[4]);
  if (argc == 5 && strcmp(argv[1], "connect") == 0)
    return connect_many(argv[2], atoi(argv[3]), strcmp(argv[4], "resume") == 0);
  return die("serve PORT CERT KEY, or connect PORT COUNT full|resume");
}
