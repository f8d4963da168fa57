// Found only when .libtorch lacks this header: the compiler's message then says what to do.
#include "libtorch is missing: run scripts/setup"
