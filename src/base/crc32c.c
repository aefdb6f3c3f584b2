// CRC32C two ways: with the instruction of the processor, and with eight tables, eight bytes at a time. Both give the same.
#include "base/crc32c.h"

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/crc32c_table.h"

// Little-endian whatever the machine: what is on disk must not depend on who reads it.
static uint32_t load_u32(const uint8_t *at)
{
  return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

uint32_t crc32c_table(uint32_t crc, struct span bytes)
{
  assert(bytes.at || bytes.size == 0);
  const uint8_t *at = bytes.at;
  size_t left = bytes.size;
  crc = ~crc;
  for (; left >= 8; at += 8, left -= 8) {
    uint32_t low = crc ^ load_u32(at);
    uint32_t high = load_u32(at + 4);
    crc = crc32c_tables[7][low & 0xff] ^ crc32c_tables[6][low >> 8 & 0xff] ^ crc32c_tables[5][low >> 16 & 0xff] ^
          crc32c_tables[4][low >> 24] ^ crc32c_tables[3][high & 0xff] ^ crc32c_tables[2][high >> 8 & 0xff] ^
          crc32c_tables[1][high >> 16 & 0xff] ^ crc32c_tables[0][high >> 24];
  }
  for (; left > 0; at++, left--) crc = crc32c_tables[0][(crc ^ *at) & 0xff] ^ crc >> 8;
  return ~crc;
}

#if defined(__x86_64__)

// The compiler's own names for the instructions: the header that wraps them would have to be allowed in a pure folder.
__attribute__((target("sse4.2"))) static uint32_t crc32c_instruction(uint32_t crc, struct span bytes)
{
  const uint8_t *at = bytes.at;
  size_t left = bytes.size;
  uint64_t wide = ~crc;
  for (; left >= 8; at += 8, left -= 8) {
    uint64_t word;
    memcpy(&word, at, sizeof word);
    wide = __builtin_ia32_crc32di(wide, word);
  }
  uint32_t narrow = (uint32_t)wide;
  for (; left > 0; at++, left--) narrow = __builtin_ia32_crc32qi(narrow, *at);
  return ~narrow;
}

static bool has_instruction(void)
{
  return __builtin_cpu_supports("sse4.2");  // one load and a test: the compiler's start-up code asked the processor
}

#elif defined(__ARM_FEATURE_CRC32) && defined(__ORDER_LITTLE_ENDIAN__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__

// Compiled for a processor that has them (-march=armv8-a+crc): others must not be asked, that is a system call.
static uint32_t crc32c_instruction(uint32_t crc, struct span bytes)
{
  const uint8_t *at = bytes.at;
  size_t left = bytes.size;
  crc = ~crc;
#if defined(__aarch64__)
  for (; left >= 8; at += 8, left -= 8) {
    uint64_t word;
    memcpy(&word, at, sizeof word);
    __asm__("crc32cx %w0, %w0, %x1" : "+r"(crc) : "r"(word));
  }
  for (; left > 0; at++, left--) __asm__("crc32cb %w0, %w0, %w1" : "+r"(crc) : "r"((uint32_t)*at));
#else
  for (; left >= 4; at += 4, left -= 4) {
    uint32_t word;
    memcpy(&word, at, sizeof word);
    __asm__("crc32cw %0, %0, %1" : "+r"(crc) : "r"(word));
  }
  for (; left > 0; at++, left--) __asm__("crc32cb %0, %0, %1" : "+r"(crc) : "r"((uint32_t)*at));
#endif
  return ~crc;
}

static bool has_instruction(void)
{
  return true;
}

#else

static uint32_t crc32c_instruction(uint32_t crc, struct span bytes)
{
  return crc32c_table(crc, bytes);
}

static bool has_instruction(void)
{
  return false;
}

#endif

uint32_t crc32c(uint32_t crc, struct span bytes)
{
  assert(bytes.at || bytes.size == 0);
  return has_instruction() ? crc32c_instruction(crc, bytes) : crc32c_table(crc, bytes);
}
