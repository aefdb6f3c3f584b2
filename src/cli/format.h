// How `skerry sub` prints a message: formats in the language of mosquitto_sub's -F, and JSON. Pure: the time comes in.
#pragma once

#include <stdint.h>
#include <time.h>

#include "base/buffer.h"
#include "base/error.h"
#include "mqtt/packet.h"

// When a message arrived.
struct format_time {
  struct tm local;  // broken down in the zone that is shown; tm_gmtoff and tm_zone are used
  int64_t unix_s;
  uint32_t nanoseconds;
};

// The forms that -F knows:
//   %t topic  %p payload  %q QoS  %r retain  %l length  %m packet identifier  %d DUP  %x %X hexadecimal payload
//   %A topic alias  %C content type  %D correlation data  %E message expiry  %F payload format  %P user properties
//   %R response topic  %S subscription identifiers
//   %I time as ISO 8601  %U Unix time with nanoseconds  %j %J JSON  %% percent sign
//   between % and the letter: "-" left aligned, "0" filled with zeros, a width, ".N" a greatest width
//   @x strftime's %x  @N nanoseconds  @@ at sign      \n \r \t \v \a \e \0 \\ characters
// Everything else is printed as it stands.

// ERR_INVALID when the text uses a form that does not exist; the error names it.
CHECK_RESULT enum status format_check(const char *format, struct error *error);

// Appends one message in a format that format_check accepts. ERR_NO_MEMORY may leave a part behind.
CHECK_RESULT enum status format_message(const char *format, const struct mqtt_publish *publish,
                                        const struct format_time *time, struct buffer *out);

// Appends the message as one JSON object: tst, topic, qos, retain, payloadlen, mid (QoS 1 and 2), properties (if any), and
// "payload" as text when it is UTF-8 or else "payload_base64". With `embed` a payload that is JSON itself is put in as it
// is.
CHECK_RESULT enum status format_json(const struct mqtt_publish *publish, const struct format_time *time, bool embed,
                                     struct buffer *out);
