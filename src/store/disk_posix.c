#include "store/disk.h"
