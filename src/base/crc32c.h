// CRC32C (Castagnoli, polynomial 0x1EDC6F41 reflected), as in iSCSI (RFC 3720) and ext4: with the processor's own
// instruction where there is one. Pure; any thread.
#pragma once

#include <stdint.h>

#include "base/span.h"

// Goes on from `crc`; 0 to begin.
uint32_t crc32c(uint32_t crc, struct span bytes);

// The same without the instruction: for tests, and where there is none.
uint32_t crc32c_table(uint32_t crc, struct span bytes);
