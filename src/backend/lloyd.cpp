#include "guard.h"
#include "parallel.h"
