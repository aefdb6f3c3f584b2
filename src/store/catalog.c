#include "store/catalog.h"
