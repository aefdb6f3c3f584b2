// TLS handshakes: what they cost when nothing but the library is there, and clients that ask for many of them.
//
//   handshakes serve PORT CERT KEY
//     The bare accept loop: accept, SSL_accept, one read, one write, close. Until it is killed.
//   handshakes connect PORT COUNT full|resume 1.2|1.3 CLIENTS
//     Each of so many clients makes COUNT connections one after the other, each with an MQTT CONNECT that is answered. Fails
//     unless all (of resume: all but the first of each client) are of the kind.
//   handshakes flood PORT SECONDS
//     4,000 connections a second that begin a greeting and never go on; 2,000 are kept open.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

// Behind it comes the number of the client in two digits: the same name twice would be a session that moves.
#define CONNECT_HEAD                                                                                                        \
  "\x10\x14\x00\x04MQTT\x04\x02\x00\x00\x00\x08"                                                                            \
  "bench-"
enum { CONNECT_SIZE = sizeof CONNECT_HEAD + 1, CLIENTS_MAX = 99 };
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

struct asked {
  const char *port;
  int count;
  bool resume;
  int version;
  int client;
};

// One connection. The ticket of before goes in, the one for the next time comes out.
static bool connect_once(SSL_CTX *context, const struct asked *asked, SSL_SESSION **ticket, bool *out_resumed)
{
  struct sockaddr_in address = address_of(asked->port);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  // Ports would run out: thousands of connections in TIME_WAIT.
  struct linger linger = {.l_onoff = 1};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
  set_on(fd, IPPROTO_TCP, TCP_NODELAY);
  SSL *ssl = SSL_new(context);
  SSL_set_fd(ssl, fd);
  if (*ticket) SSL_set_session(ssl, *ticket);
  unsigned char answer[8];
  char packet[CONNECT_SIZE + 1] = CONNECT_HEAD;
  packet[CONNECT_SIZE - 2] = (char)('0' + asked->client / 10);
  packet[CONNECT_SIZE - 1] = (char)('0' + asked->client % 10);
  bool fine = connect(fd, (struct sockaddr *)&address, sizeof address) == 0 && SSL_connect(ssl) == 1 &&
              SSL_write(ssl, packet, CONNECT_SIZE) > 0 && SSL_read(ssl, answer, sizeof answer) >= 2;
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

static int connect_many(const struct asked *asked)
{
  SSL_CTX *context = SSL_CTX_new(TLS_client_method());
  SSL_CTX_set_min_proto_version(context, asked->version);
  SSL_CTX_set_max_proto_version(context, asked->version);
  SSL_SESSION *ticket = NULL;
  for (int i = 0; i < asked->count; i++) {
    bool resumed = false;
    if (!connect_once(context, asked, &ticket, &resumed)) return die("a connection has failed");
    if (resumed != (asked->resume && i > 0))
      return die(resumed ? "a connection was resumed" : "a connection was not resumed");
    if (asked->resume) continue;
    SSL_SESSION_free(ticket);
    ticket = NULL;
  }
  SSL_SESSION_free(ticket);
  SSL_CTX_free(context);
  return EXIT_SUCCESS;
}

static int connect_at_once(struct asked asked, int clients)
{
  if (clients < 1 || clients > CLIENTS_MAX) return die("1 to 99 clients");
  for (; asked.client < clients; asked.client++) {
    pid_t child = fork();
    if (child == 0) exit(connect_many(&asked));
    if (child < 0) return die("cannot fork");
  }
  int worst = EXIT_SUCCESS, status;
  while (wait(&status) > 0)
    if (status != 0) worst = EXIT_FAILURE;
  return worst;
}

// From many addresses, as one alone would only push out its own.
static int begin_greeting(const char *port, unsigned number)
{
  static const unsigned char greeting[] = {0x16, 3, 1, 2, 0, 1};
  struct sockaddr_in address = address_of(port);
  struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + number % 50)};
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (bind(fd, (struct sockaddr *)&from, sizeof from) == 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
    (void)!send(fd, greeting, sizeof greeting, MSG_NOSIGNAL);
  return fd;
}

static int flood(const char *port, int seconds)
{
  enum { KEPT = 2000, BETWEEN_NS = 250000 };
  int kept[KEPT];
  time_t end = time(NULL) + seconds;
  for (unsigned made = 0; time(NULL) < end; made++) {
    if (made >= KEPT) close(kept[made % KEPT]);
    kept[made % KEPT] = begin_greeting(port, made);
    nanosleep(&(struct timespec){.tv_nsec = BETWEEN_NS}, NULL);
  }
  return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
  signal(SIGPIPE, SIG_IGN);
  if (argc == 5 && strcmp(argv[1], "serve") == 0) return serve(argv[2], argv[3], argv[4]);
  if (argc == 7 && strcmp(argv[1], "connect") == 0)
    return connect_at_once((struct asked){.port = argv[2],
                                          .count = atoi(argv[3]),
                                          .resume = strcmp(argv[4], "resume") == 0,
                                          .version = strcmp(argv[5], "1.2") == 0 ? TLS1_2_VERSION : TLS1_3_VERSION},
                           atoi(argv[6]));
  if (argc == 4 && strcmp(argv[1], "flood") == 0) return flood(argv[2], atoi(argv[3]));
  return die("serve PORT CERT KEY, connect PORT COUNT full|resume 1.2|1.3 CLIENTS, or flood PORT SECONDS");
}
