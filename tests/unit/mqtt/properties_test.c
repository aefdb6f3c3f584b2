#include "bytes.h"

// ---- Where properties stand in packets

// Table 2-4 of the standard calls them so; 'W' is the will in CONNECT.
static const struct place {
  char letter;
  const char *name;
  enum mqtt_sender sender;
  const char *before;
  const char *after;
} places[] = {
    {'C', "CONNECT", MQTT_FROM_CLIENT, "10 0004'MQTT' 05 02 003c", "0003'cli'"},
    {'W', "will", MQTT_FROM_CLIENT, "10 0004'MQTT' 05 06 003c 00 0003'cli'", "0001'w' 0000"},
    {'c', "CONNACK", MQTT_FROM_SERVER, "20 0000", ""},
    {'P', "PUBLISH", MQTT_FROM_SERVER, "30 0001'a'", "'payload'"},
    {'a', "PUBACK", MQTT_FROM_SERVER, "40 0001 80", ""},
    {'r', "PUBREC", MQTT_FROM_SERVER, "50 0001 80", ""},
    {'l', "PUBREL", MQTT_FROM_SERVER, "62 0001 92", ""},
    {'m', "PUBCOMP", MQTT_FROM_SERVER, "70 0001 92", ""},
    {'S', "SUBSCRIBE", MQTT_FROM_CLIENT, "82 0001", "0001'a' 00"},
    {'s', "SUBACK", MQTT_FROM_SERVER, "90 0001", "00"},
    {'U', "UNSUBSCRIBE", MQTT_FROM_CLIENT, "a2 0001", "0001'a'"},
    {'u', "UNSUBACK", MQTT_FROM_SERVER, "b0 0001", "00"},
    {'D', "DISCONNECT", MQTT_FROM_CLIENT, "e0 00", ""},
    {'A', "AUTH", MQTT_FROM_CLIENT, "f0 18", ""},
};

enum { PLACE_COUNT = sizeof places / sizeof places[0] };

// The standard's table 2-4, and a value for each.
static const struct known {
  unsigned identifier;
  const char *places;
  const char *bytes;
} known[] = {
    {1, "PW", "01 01"},
    {2, "PW", "02 00000e10"},
    {3, "PW", "03 0004'text'"},
    {8, "PW", "08 0003'r/t'"},
    {9, "PW", "09 0002 00ff"},
    {11, "PS", "0b 8102"},
    {17, "CcD", "11 0000003c"},
    {18, "c", "12 0004'auto'"},
    {19, "c", "13 000a"},
    {21, "CcA", "15 0001'm'"},
    {22, "CcA", "16 0002 ff00"},
    {23, "C", "17 00"},
    {24, "W", "18 00000005"},
    {25, "C", "19 01"},
    {26, "c", "1a 0002'ri'"},
    {28, "cD", "1c 0005'other'"},
    {31, "carlmsuDA", "1f 0003'why'"},
    {33, "Cc", "21 0014"},
    {34, "Cc", "22 0000"},
    {35, "P", "23 0003"},
    {36, "c", "24 01"},
    {37, "c", "25 00"},
    {38, "CWcParlmSsUuDA", "26 0003'key' 0005'value'"},
    {39, "Cc", "27 00010000"},
    {40, "c", "28 00"},
    {41, "c", "29 01"},
    {42, "c", "2a 00"},
};

enum { KNOWN_COUNT = sizeof known / sizeof known[0] };

static const struct known *find_known(unsigned identifier)
{
  for (size_t i = 0; i < KNOWN_COUNT; i++)
    if (known[i].identifier == identifier) return &known[i];
  return NULL;
}

// Authentication data and AUTH need a method besides.
static const char *companion(const struct place *place, unsigned identifier)
{
  if (identifier == MQTT_PROPERTY_AUTHENTICATION_METHOD) return "";
  if (place->letter == 'A') return "15 0001'm'";
  if (place->letter == 'C' && identifier == MQTT_PROPERTY_AUTHENTICATION_DATA) return "15 0001'm'";
  return "";
}

static void check(const struct place *place, const char *properties, enum mqtt_reason reason, const char *statement)
{
  uint8_t bytes[BYTES_MAX];
  char text[BYTES_MAX];
  size_t size = bytes_parse(properties, bytes);
  assert_true(size < 128);
  snprintf(text, sizeof text, "%s %02x %s %s", place->before, (unsigned)size, properties, place->after);
  char what[256];
  snprintf(what, sizeof what, "%s with %s", place->name, properties);
  const struct packet_case test = {what, MQTT_5_0, place->sender, text, reason, statement};
  run_packet_case(&test);
}

// ---- Tests

static void every_property_in_every_packet(void **state)
{
  (void)state;
  for (size_t p = 0; p < PLACE_COUNT; p++) {
    for (unsigned identifier = 0; identifier < 256; identifier++) {
      const struct known *property = find_known(identifier);
      char text[BYTES_MAX];
      if (property) {
        snprintf(text, sizeof text, "%s %s", property->bytes, companion(&places[p], identifier));
        bool allowed = strchr(property->places, places[p].letter) != NULL;
        check(&places[p], text, allowed ? MQTT_SUCCESS : MQTT_MALFORMED_PACKET, NULL);
      } else {
        snprintf(text, sizeof text, "%02x 01 %s", identifier, companion(&places[p], identifier));
        check(&places[p], text, MQTT_MALFORMED_PACKET, NULL);
      }
    }
  }
}

static void repeated_properties(void **state)
{
  (void)state;
  for (size_t p = 0; p < PLACE_COUNT; p++) {
    for (size_t i = 0; i < KNOWN_COUNT; i++) {
      if (!strchr(known[i].places, places[p].letter)) continue;
      char text[BYTES_MAX];
      snprintf(text, sizeof text, "%s %s %s", known[i].bytes, companion(&places[p], known[i].identifier), known[i].bytes);
      bool may = known[i].identifier == MQTT_PROPERTY_USER ||
                 (known[i].identifier == MQTT_PROPERTY_SUBSCRIPTION_ID && places[p].letter == 'P');
      check(&places[p], text, may ? MQTT_SUCCESS : MQTT_PROTOCOL_ERROR, NULL);
    }
  }
}

static void values_out_of_range(void **state)
{
  (void)state;
  static const struct {
    char letter;
    const char *bytes;
    enum mqtt_reason reason;
    const char *statement;
  } cases[] = {
      {'P', "01 00", MQTT_SUCCESS, NULL},
      {'P', "01 02", MQTT_PROTOCOL_ERROR, NULL},
      {'W', "01 ff", MQTT_PROTOCOL_ERROR, NULL},
      {'P', "02 00000000", MQTT_SUCCESS, NULL},
      {'P', "08 0000", MQTT_PROTOCOL_ERROR, "MQTT-4.7.3-1"},
      {'P', "08 0003'a/#'", MQTT_PROTOCOL_ERROR, "MQTT-3.3.2-14"},
      {'W', "08 0001'+'", MQTT_PROTOCOL_ERROR, "MQTT-3.3.2-14"},
      {'P', "09 0000", MQTT_SUCCESS, NULL},
      {'S', "0b 00", MQTT_PROTOCOL_ERROR, NULL},
      {'P', "0b 00", MQTT_PROTOCOL_ERROR, NULL},
      {'S', "0b ffffff7f", MQTT_SUCCESS, NULL},
      {'S', "0b ffffffff01", MQTT_MALFORMED_PACKET, NULL},
      {'S', "0b 8100", MQTT_MALFORMED_PACKET, "MQTT-1.5.5-1"},
      {'C', "11 ffffffff", MQTT_SUCCESS, NULL},
      {'C', "17 02", MQTT_PROTOCOL_ERROR, NULL},
      {'C', "19 02", MQTT_PROTOCOL_ERROR, NULL},
      {'C', "21 0000", MQTT_PROTOCOL_ERROR, NULL},
      {'c', "21 0000", MQTT_PROTOCOL_ERROR, NULL},
      {'C', "22 ffff", MQTT_SUCCESS, NULL},
      {'P', "23 0000", MQTT_TOPIC_ALIAS_INVALID, "MQTT-3.3.2-8"},
      {'c', "24 02", MQTT_PROTOCOL_ERROR, NULL},
      {'c', "25 02", MQTT_PROTOCOL_ERROR, NULL},
      {'C', "27 00000000", MQTT_PROTOCOL_ERROR, NULL},
      {'c', "27 00000000", MQTT_PROTOCOL_ERROR, NULL},
      {'c', "28 02", MQTT_PROTOCOL_ERROR, NULL},
      {'c', "29 02", MQTT_PROTOCOL_ERROR, NULL},
      {'c', "2a 02", MQTT_PROTOCOL_ERROR, NULL},
      {'c', "13 0000", MQTT_SUCCESS, NULL},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
    for (size_t p = 0; p < PLACE_COUNT; p++)
      if (places[p].letter == cases[i].letter) check(&places[p], cases[i].bytes, cases[i].reason, cases[i].statement);
}

static void texts_must_be_utf8(void **state)
{
  (void)state;
  static const struct {
    char letter;
    const char *bytes;
    const char *statement;
  } cases[] = {
      {'P', "03 0001 ff", "MQTT-1.5.4-1"},         {'P', "03 0001 00", "MQTT-1.5.4-2"},
      {'P', "08 0002 c080", "MQTT-1.5.4-1"},       {'c', "12 0003 eda080", "MQTT-1.5.4-1"},
      {'C', "15 0001 80", "MQTT-1.5.4-1"},         {'c', "1a 0001 fe", "MQTT-1.5.4-1"},
      {'D', "1c 0001 00", "MQTT-1.5.4-2"},         {'a', "1f 0004 f4908080", "MQTT-1.5.4-1"},
      {'P', "26 0001 ff 0001'v'", "MQTT-1.5.7-1"}, {'P', "26 0001'k' 0001 ff", "MQTT-1.5.7-1"},
      {'P', "26 0001 00 0001'v'", "MQTT-1.5.7-1"}, {'P', "26 0001'k' 0001 00", "MQTT-1.5.7-1"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
    for (size_t p = 0; p < PLACE_COUNT; p++)
      if (places[p].letter == cases[i].letter) check(&places[p], cases[i].bytes, MQTT_MALFORMED_PACKET, cases[i].statement);
}

// The property length says that the value ends earlier than it does, at every byte of every property.
static void values_cut_off_by_the_property_length(void **state)
{
  (void)state;
  for (size_t i = 0; i < KNOWN_COUNT; i++) {
    const struct place *place = NULL;
    for (size_t p = 0; p < PLACE_COUNT; p++)
      if (places[p].letter == known[i].places[0]) place = &places[p];
    assert_non_null(place);
    uint8_t value[BYTES_MAX];
    size_t size = bytes_parse(known[i].bytes, value);
    for (size_t cut = 1; cut < size; cut++) {
      uint8_t bytes[BYTES_MAX];
      size_t before = bytes_parse(place->before, bytes);
      bytes[before] = (uint8_t)cut;
      memcpy(bytes + before + 1, value, size);
      size_t after = bytes_parse(place->after, bytes + before + 1 + size);
      struct mqtt_packet packet;
      struct mqtt_fault fault = {0};
      if (mqtt_decode(MQTT_5_0, place->sender, bytes[0], span_of(bytes + 1, before + size + after), &packet, &fault))
        fail_msg("property %u cut at %zu", known[i].identifier, cut);
      assert_int_equal(fault.reason, MQTT_MALFORMED_PACKET);
    }
  }
}

static void connack_values_are_read(void **state)
{
  (void)state;
  uint8_t bytes[BYTES_MAX];
  struct mqtt_packet packet;
  decode_bytes(MQTT_5_0, MQTT_FROM_SERVER,
               "20 0100 46 11 0000003c 21 0014 24 00 25 01 27 00010000 12 0004'auto' 22 0007 1f 0002'ok' 26 0001'k' 0001'v' "
               "28 01 29 01 2a 01 13 000a 1a 0002'ri' 1c 0005'other' 15 0001'm' 16 0002 ff00",
               bytes, &packet);
  const struct mqtt_properties *properties = &packet.connack.properties;
  assert_int_equal(properties->session_expiry_s, 60);
  assert_int_equal(properties->receive_maximum, 20);
  assert_true(MQTT_HAS(properties, MAXIMUM_QOS));
  assert_int_equal(properties->maximum_qos, 0);
  assert_int_equal(properties->retain_available, 1);
  assert_int_equal(properties->maximum_packet_size, 65536);
  assert_span_text(properties->assigned_client_id, "auto");
  assert_int_equal(properties->topic_alias_maximum, 7);
  assert_span_text(properties->reason_string, "ok");
  assert_int_equal(properties->wildcard_subscription_available, 1);
  assert_int_equal(properties->subscription_id_available, 1);
  assert_int_equal(properties->shared_subscription_available, 1);
  assert_int_equal(properties->server_keep_alive_s, 10);
  assert_span_text(properties->response_information, "ri");
  assert_span_text(properties->server_reference, "other");
  assert_span_text(properties->authentication_method, "m");
  assert_int_equal(properties->authentication_data.size, 2);
  assert_false(MQTT_HAS(properties, PAYLOAD_FORMAT));
}

static void repeated_properties_are_walked(void **state)
{
  (void)state;
  uint8_t bytes[BYTES_MAX];
  struct mqtt_packet packet;
  decode_bytes(MQTT_5_0, MQTT_FROM_SERVER,
               "30 0001'a' 1b 0101 0b05 26 0001'k' 0001'1' 0b8001 03 0001't' 26 0001'k' 0000 230002", bytes, &packet);
  const struct mqtt_properties *properties = &packet.publish.properties;
  struct mqtt_user_property user;
  size_t cursor = 0;
  assert_true(mqtt_next_user_property(properties, &cursor, &user));
  assert_span_text(user.name, "k");
  assert_span_text(user.value, "1");
  assert_true(mqtt_next_user_property(properties, &cursor, &user));
  assert_span_text(user.name, "k");
  assert_int_equal(user.value.size, 0);
  assert_false(mqtt_next_user_property(properties, &cursor, &user));
  uint32_t id;
  cursor = 0;
  assert_int_equal(properties->subscription_id, 5);
  assert_int_equal(properties->subscription_id_count, 2);
  assert_true(mqtt_next_subscription_id(properties, &cursor, &id));
  assert_int_equal(id, 5);
  assert_true(mqtt_next_subscription_id(properties, &cursor, &id));
  assert_int_equal(id, 128);
  assert_false(mqtt_next_subscription_id(properties, &cursor, &id));
}

static void forwarded_properties_keep_their_order(void **state)
{
  (void)state;
  static const struct {
    const char *raw;
    const char *forwarded;
  } cases[] = {
      {"", ""},
      {"0101", "0101"},
      {"23 0001", ""},
      {"02 00000001 23 0001 0b 8001 18 00000001", ""},
      {"26 0001'k' 0001'1' 0101 23 0001 26 0001'k' 0001'2' 02 00000001 09 0002 ff00 03 0001't' 08 0001'r' 0b05",
       "26 0001'k' 0001'1' 0101 26 0001'k' 0001'2' 09 0002 ff00 03 0001't' 08 0001'r'"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    uint8_t raw[BYTES_MAX];
    uint8_t wanted[BYTES_MAX];
    uint8_t out[BYTES_MAX];
    struct span copy = exact_copy(raw, bytes_parse(cases[i].raw, raw));
    size_t size = bytes_parse(cases[i].forwarded, wanted);
    assert_int_equal(mqtt_forward_properties(copy, NULL), size);
    assert_int_equal(mqtt_forward_properties(copy, out), size);
    assert_memory_equal(out, wanted, size);
    exact_free(copy);
  }
}

static void user_properties_are_written(void **state)
{
  (void)state;
  uint8_t out[16];
  uint8_t wanted[BYTES_MAX];
  size_t size = bytes_parse("26 0003'key' 0001'v'", wanted);
  assert_int_equal(mqtt_write_user_property(NULL, 0, span_text("key"), span_text("v")), size);
  assert_int_equal(mqtt_write_user_property(out, size, span_text("key"), span_text("v")), size);
  assert_memory_equal(out, wanted, size);
  assert_int_equal(mqtt_write_user_property(out, size - 1, span_text("key"), span_text("v")), 0);
  assert_int_equal(mqtt_write_user_property(out, sizeof out, span_of(NULL, 0), span_of(NULL, 0)), 5);
  uint8_t *big = calloc(1, MQTT_MAX_STRING + 1);
  assert_non_null(big);
  assert_int_equal(mqtt_write_user_property(NULL, 0, span_of(big, MQTT_MAX_STRING), span_text("")), 5 + MQTT_MAX_STRING);
  assert_int_equal(mqtt_write_user_property(NULL, 0, span_of(big, MQTT_MAX_STRING + 1), span_text("")), 0);
  assert_int_equal(mqtt_write_user_property(NULL, 0, span_text(""), span_of(big, MQTT_MAX_STRING + 1)), 0);
  free(big);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_property_in_every_packet),
      cmocka_unit_test(repeated_properties),
      cmocka_unit_test(values_out_of_range),
      cmocka_unit_test(texts_must_be_utf8),
      cmocka_unit_test(values_cut_off_by_the_property_length),
      cmocka_unit_test(connack_values_are_read),
      cmocka_unit_test(repeated_properties_are_walked),
      cmocka_unit_test(forwarded_properties_keep_their_order),
      cmocka_unit_test(user_properties_are_written),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
