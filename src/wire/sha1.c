#include "wire/sha1.h"

#include <string.h>

enum { BLOCK_SIZE = 64, LENGTH_SIZE = 8, ROUNDS = 80 };

static uint32_t rotate_left(uint32_t value, unsigned bits)
{
  return value << bits | value >> (32 - bits);
}

static uint32_t read_be32(const uint8_t *at)
{
  return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static uint32_t round_mix(unsigned round, uint32_t b, uint32_t c, uint32_t d)
{
  if (round < 20) return ((b & c) | (~b & d)) + 0x5a827999;
  if (round < 40) return (b ^ c ^ d) + 0x6ed9eba1;
  if (round < 60) return ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdc;
  return (b ^ c ^ d) + 0xca62c1d6;
}

static void add_block(uint32_t state[5], const uint8_t block[BLOCK_SIZE])
{
  uint32_t words[ROUNDS];
  for (unsigned i = 0; i < 16; i++) words[i] = read_be32(block + 4 * i);
  for (unsigned i = 16; i < ROUNDS; i++)
    words[i] = rotate_left(words[i - 3] ^ words[i - 8] ^ words[i - 14] ^ words[i - 16], 1);
  uint32_t a = state[0];
  uint32_t b = state[1];
  uint32_t c = state[2];
  uint32_t d = state[3];
  uint32_t e = state[4];
  for (unsigned i = 0; i < ROUNDS; i++) {
    uint32_t next = rotate_left(a, 5) + round_mix(i, b, c, d) + e + words[i];
    e = d;
    d = c;
    c = rotate_left(b, 30);
    b = a;
    a = next;
  }
  state[0] += a;
  state[1] += b;
  state[2] += c;
  state[3] += d;
  state[4] += e;
}

void sha1(struct span message, uint8_t out_digest[SHA1_SIZE])
{
  uint32_t state[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
  size_t whole = message.size / BLOCK_SIZE * BLOCK_SIZE;
  for (size_t at = 0; at < whole; at += BLOCK_SIZE) add_block(state, message.at + at);

  // What is left, a one bit, zeros, and the length in bits: one block, or two when the length does not fit behind.
  uint8_t last[2 * BLOCK_SIZE] = {0};
  size_t left = message.size - whole;
  if (left) memcpy(last, message.at + whole, left);
  last[left] = 0x80;
  size_t size = left + 1 + LENGTH_SIZE <= BLOCK_SIZE ? BLOCK_SIZE : 2 * BLOCK_SIZE;
  uint64_t bits = (uint64_t)message.size * 8;
  for (unsigned i = 0; i < LENGTH_SIZE; i++) last[size - 1 - i] = (uint8_t)(bits >> (8 * i));
  for (size_t at = 0; at < size; at += BLOCK_SIZE) add_block(state, last + at);

  for (unsigned i = 0; i < SHA1_SIZE; i++) out_digest[i] = (uint8_t)(state[i / 4] >> (24 - 8 * (i % 4)));
}
