// Spelling help for commands, options and configuration keys. Knows nothing of them.
#include "base/nearest.h"

#include <stdbool.h>
#include <string.h>

enum { WORD_MAX = 63 };

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
  unsigned least = a < b ? a : b;
  return least < c ? least : c;
}

static char lower(char c)
{
  return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

static bool same_letter(char a, char b)
{
  return lower(a) == lower(b);
}

// Optimal string alignment: three rows of the edit matrix are enough to see a swap.
unsigned edit_distance(const char *a, const char *b)
{
  size_t a_size = strnlen(a, WORD_MAX);
  size_t b_size = strnlen(b, WORD_MAX);
  unsigned rows[3][WORD_MAX + 1];
  for (size_t j = 0; j <= b_size; j++) rows[0][j] = (unsigned)j;
  for (size_t i = 1; i <= a_size; i++) {
    unsigned *row = rows[i % 3];
    const unsigned *above = rows[(i + 2) % 3];
    const unsigned *two_above = rows[(i + 1) % 3];
    row[0] = (unsigned)i;
    for (size_t j = 1; j <= b_size; j++) {
      unsigned cost = same_letter(a[i - 1], b[j - 1]) ? 0 : 1;
      row[j] = min3(above[j] + 1, row[j - 1] + 1, above[j - 1] + cost);
      bool swapped = i > 1 && j > 1 && same_letter(a[i - 1], b[j - 2]) && same_letter(a[i - 2], b[j - 1]);
      if (swapped && two_above[j - 2] + 1 < row[j]) row[j] = two_above[j - 2] + 1;
    }
  }
  return rows[a_size % 3][b_size];
}

const char *nearest_name(const char *word, const char *const *candidates, size_t count)
{
  unsigned third = (unsigned)(strnlen(word, WORD_MAX) + 2) / 3;
  unsigned limit = third < 2 ? third : 2;
  const char *best = NULL;
  for (size_t i = 0; i < count; i++) {
    if (!candidates[i]) continue;
    unsigned distance = edit_distance(word, candidates[i]);
    if (distance > limit) continue;
    best = candidates[i];
    if (distance == 0) break;
    limit = distance - 1;
  }
  return best;
}
