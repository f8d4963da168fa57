/* The few calls of MPI that training needs: joining, sums and maxima over all processes, leaving. See ranks.rs. */

#include <mpi.h>
#include <sched.h>
#include <stdint.h>

/* Values of one call at most: MPI counts in int. */
static const int64_t kMost = 1 << 28;
/* Looks for an end between two questions whether to give up. */
static const int kLooks = 1000;

/* Joins the processes that were started together; 0 where that worked. */
int dec_mpi_join(int *rank, int *size) {
  int given = 0;
  if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &given) != MPI_SUCCESS) {
    return 1;
  }
  if (MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN) != MPI_SUCCESS) {
    return 1;
  }
  if (MPI_Comm_rank(MPI_COMM_WORLD, rank) != MPI_SUCCESS || MPI_Comm_size(MPI_COMM_WORLD, size) != MPI_SUCCESS) {
    return 1;
  }
  return 0;
}

/* values[i] = the sum (or the maximum) over all processes, in place. kind: 0 float, 1 double, 2 the maximum of int64. 0 where that
   worked, 1 where MPI refused, 2 where give_up() said so before the others had come. */
int dec_mpi_reduce(void *values, int64_t count, int kind, int (*give_up)(void)) {
  const MPI_Datatype types[] = {MPI_FLOAT, MPI_DOUBLE, MPI_INT64_T};
  const int64_t bytes[] = {sizeof(float), sizeof(double), sizeof(int64_t)};
  const MPI_Op operation = kind == 2 ? MPI_MAX : MPI_SUM;
  for (int64_t first = 0; first < count; first += kMost) {
    const int64_t part = count - first < kMost ? count - first : kMost;
    char *from = (char *)values + first * bytes[kind];
    MPI_Request request;
    if (MPI_Iallreduce(MPI_IN_PLACE, from, (int)part, types[kind], operation, MPI_COMM_WORLD, &request) != MPI_SUCCESS) {
      return 1;
    }
    int done = 0;
    for (int looks = 1; !done; ++looks) {
      if (MPI_Test(&request, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS) {
        return 1;
      }
      if (!done && looks % kLooks == 0) {
        if (give_up()) {
          return 2;
        }
        sched_yield();
      }
    }
  }
  return 0;
}

/* Takes leave of the others, for whom it waits. */
int dec_mpi_leave(void) { return MPI_Finalize() != MPI_SUCCESS; }
