// Options of TLS. See client_tls.h.
#include "cli/client_tls.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { PROTOCOL_MAX = 255 };

static enum status apply_version(void *target, struct option_words *words, struct error *error)
{
  struct client_tls_options *options = target;
  const char *text = option_word(words);
  if (!text) return error_set(error, ERR_INVALID, "needs VERSION behind it");
  const char *number = strncasecmp(text, "tlsv", 4) == 0 ? text + 4 : text;
  bool two = strcmp(number, "1.2") == 0;
  if (!two && strcmp(number, "1.3") != 0)
    return error_set(error, ERR_INVALID, "\"%s\" is no version of TLS that is spoken here; known are 1.2 and 1.3", text);
  options->versions = two ? TLS_1_2_ONLY : TLS_1_3_ONLY;
  options->versions_given = true;
  return OK;
}

#define FIELD(name) offsetof(struct client_tls_options, name)

static const struct option rows[] = {
    {0, "tls", NULL, "Use TLS with -h and -p; any option below means the same. Default port: 8883.", OPTION_FLAG,
     FIELD(wanted), 0, 0, NULL},
    {0, "cafile", "FILE", "Authorities to trust, PEM. Default: those that this system trusts.", OPTION_TEXT, FIELD(cafile),
     0, 0, NULL},
    {0, "capath", "DIRECTORY", "A directory of them, as openssl rehash makes it.", OPTION_TEXT, FIELD(capath), 0, 0, NULL},
    {0, "cert", "FILE", "This client's certificate, then those between it and the root, PEM.", OPTION_TEXT, FIELD(cert), 0,
     0, NULL},
    {0, "key", "FILE", "Its key, PEM.", OPTION_TEXT, FIELD(key), 0, 0, NULL},
    {0, "psk-file", "FILE", "Use a pre-shared key instead: from a file of lines IDENTITY:KEY, the key in hexadecimal.",
     OPTION_TEXT, FIELD(psk_file), 0, 0, NULL},
    {0, "psk-identity", "IDENTITY", "Which of them, when there are several.", OPTION_TEXT, FIELD(psk_identity), 0, 0, NULL},
    {0, "tls-version", "VERSION", "1.2 or 1.3, and no other (also tlsv1.2, tlsv1.3). Default: both.", OPTION_APPLY, 0, 0, 0,
     apply_version},
    {0, "tls-alpn", "PROTOCOL", "Protocol to ask for (ALPN). Default: mqtt; of wss:// http/1.1.", OPTION_TEXT,
     FIELD(protocol), 0, 0, NULL},
    {0, "insecure", NULL, "Do not check the broker's certificate: whoever is between can read and change everything.",
     OPTION_FLAG, FIELD(insecure), 0, 0, NULL},
};

struct option_section client_tls_section(struct client_tls_options *options)
{
  return (struct option_section){.title = "TLS", .options = rows, .count = sizeof rows / sizeof rows[0], .target = options};
}

bool client_tls_given(const struct client_tls_options *options)
{
  return options->wanted || options->cafile || options->capath || options->cert || options->key || options->insecure ||
         options->psk_file || options->psk_identity || options->protocol || options->versions_given;
}

enum status client_tls_check(const struct client_tls_options *options, struct error *error)
{
  if (!options->cert != !options->key)
    return error_set(error, ERR_INVALID, "--cert and --key belong together: give both, or neither");
  if (options->psk_identity && !options->psk_file)
    return error_set(error, ERR_INVALID, "--psk-identity needs --psk-file, the file that holds its key");
  if (options->psk_file && (options->cafile || options->capath || options->cert || options->insecure))
    return error_set(
        error, ERR_INVALID,
        "with a pre-shared key (--psk-file) nobody shows a certificate; leave out --cafile, --capath, --cert and "
        "--insecure");
  if (options->insecure && (options->cafile || options->capath))
    return error_set(error, ERR_INVALID, "--insecure checks nothing; leave out either it or --cafile and --capath");
  if (options->protocol && (options->protocol[0] == '\0' || strlen(options->protocol) > PROTOCOL_MAX))
    return error_set(error, ERR_INVALID, "--tls-alpn wants 1 to 255 bytes");
  return OK;
}

enum status client_tls_load(const struct client_tls_options *options, const char *protocol, struct tls_client **out,
                            struct error *error)
{
  const struct tls_client_settings settings = {
      .ca = options->cafile,
      .ca_path = options->capath,
      .cert = options->cert,
      .key = options->key,
      .psk = options->psk_file,
      .psk_identity = options->psk_identity,
      .protocol = options->protocol ? options->protocol : protocol,
      .versions = options->versions,
      .unchecked = options->insecure,
  };
  return tls_client_load(&settings, (struct wall){.ms = (int64_t)time(NULL) * 1000}, out, error);
}

void client_tls_warn(const struct client_tls_options *options, const char *command)
{
  if (!options->insecure) return;
  fprintf(stderr,
          "skerry %s: WARNING: --insecure: the broker's certificate is not checked; whoever is between can read and change "
          "everything, passwords too\n",
          command);
}
