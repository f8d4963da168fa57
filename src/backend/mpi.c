/* The few calls of MPI that training needs: joining, sums, maxima and parts over all processes, leaving. See ranks.rs.

   Sums go round a ring (Patarasuk & Yuan 2009): each process adds its values to a part as it comes by, then the finished parts go
   round. So each sends and receives twice the values, however many processes there are, and the order of every sum is fixed. Between two
   processes of one machine that takes less than half of what Open MPI's own MPI_Iallreduce does, and unlike MPI_Allreduce it can be given up:
   MPI may then still write where it was going to, so that the caller keeps that memory. */

#include <mpi.h>
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* What a call returns: done; MPI refused, or memory is out; given up. */
enum { DONE, REFUSED, GIVEN_UP };
typedef int (*GiveUp)(void);

/* Bytes of one message at most: MPI counts in int. */
static const int64_t kMessage = 1 << 28;
/* Values that go round together: what is added to is still in the cache then. */
static const int64_t kRound = 1 << 20;
/* Looks for an end between two questions whether to give up. */
static const unsigned kLooks = 1000;

static int s_rank, s_size;

/* Joins the processes that were started together; 0 where that worked. */
int dec_mpi_join(int *rank, int *size) {
  int given = 0;
  if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &given) != MPI_SUCCESS) {
    return REFUSED;
  }
  if (MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN) != MPI_SUCCESS) {
    return REFUSED;
  }
  if (MPI_Comm_rank(MPI_COMM_WORLD, &s_rank) != MPI_SUCCESS || MPI_Comm_size(MPI_COMM_WORLD, &s_size) != MPI_SUCCESS) {
    return REFUSED;
  }
  *rank = s_rank;
  *size = s_size;
  return DONE;
}

static int wait_for(int count, MPI_Request *requests, GiveUp give_up) {
  int done = 0;
  for (unsigned looks = 1; !done; ++looks) {
    if (MPI_Testall(count, requests, &done, MPI_STATUSES_IGNORE) != MPI_SUCCESS) {
      return REFUSED;
    }
    if (!done && looks % kLooks == 0) {
      if (give_up()) {
        return GIVEN_UP;
      }
      sched_yield();
    }
  }
  return DONE;
}

/* Sends to the process that is so far ahead in the ring, and receives from the one as far behind. */
static int pass(int far, const char *out, int64_t sent, char *in, int64_t received, GiveUp give_up) {
  const int next = (s_rank + far) % s_size, previous = (s_rank + s_size - far) % s_size;
  for (int64_t at = 0; at < sent || at < received; at += kMessage) {
    MPI_Request requests[2] = {MPI_REQUEST_NULL, MPI_REQUEST_NULL};
    const int64_t come = received - at < kMessage ? received - at : kMessage, go = sent - at < kMessage ? sent - at : kMessage;
    if (come > 0 && MPI_Irecv(in + at, (int)come, MPI_BYTE, previous, 0, MPI_COMM_WORLD, &requests[0]) != MPI_SUCCESS) {
      return REFUSED;
    }
    if (go > 0 && MPI_Isend(out + at, (int)go, MPI_BYTE, next, 0, MPI_COMM_WORLD, &requests[1]) != MPI_SUCCESS) {
      return REFUSED;
    }
    const int ended = wait_for(2, requests, give_up);
    if (ended != DONE) {
      return ended;
    }
  }
  return DONE;
}

/* The first of `count` items that is the process's; as Ranks::share has it. */
static int64_t first_of(int64_t count, int process) { return count * process / s_size; }

/* The parts of all go round: each process has filled its own of `count` items, and has them all in the end. `ahead` is 1 where that part is
   the next process's. */
static int collect(char *values, int64_t count, int64_t item, int ahead, GiveUp give_up) {
  for (int step = 0; step < s_size - 1; ++step) {
    const int out = (s_rank + ahead - step + s_size) % s_size, in = (out + s_size - 1) % s_size;
    const int64_t from = first_of(count, out), to = first_of(count, in);
    const int ended = pass(1, values + from * item, (first_of(count, out + 1) - from) * item, values + to * item,
                           (first_of(count, in + 1) - to) * item, give_up);
    if (ended != DONE) {
      return ended;
    }
  }
  return DONE;
}

static void add(float *restrict to, const float *restrict from, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    to[i] += from[i];
  }
}

static int sum_round(float *values, int64_t count, float *scratch, GiveUp give_up) {
  const int64_t item = sizeof(float);
  for (int step = 0; step < s_size - 1; ++step) {
    const int out = (s_rank - step + s_size) % s_size, in = (out + s_size - 1) % s_size;
    const int64_t from = first_of(count, out), to = first_of(count, in), come = first_of(count, in + 1) - to;
    const int ended = pass(1, (const char *)(values + from), (first_of(count, out + 1) - from) * item, (char *)scratch, come * item, give_up);
    if (ended != DONE) {
      return ended;
    }
    add(values + to, scratch, come);
  }
  return collect((char *)values, count, item, 1, give_up);
}

/* values[i] = the sum over all processes, in place. */
int dec_mpi_sum(float *values, int64_t count, GiveUp give_up) {
  float *scratch = malloc((size_t)(kRound / s_size + 1) * sizeof(float));
  if (scratch == NULL) {
    return REFUSED;
  }
  int ended = DONE;
  for (int64_t first = 0; first < count && ended == DONE; first += kRound) {
    ended = sum_round(values + first, count - first < kRound ? count - first : kRound, scratch, give_up);
  }
  if (ended == DONE) { /* else MPI may still write there */
    free(scratch);
  }
  return ended;
}

/* Of `count` rows of so many bytes each process has filled its share; all of them have all rows in the end. */
int dec_mpi_gather(void *values, int64_t count, int64_t bytes, GiveUp give_up) { return collect(values, count, bytes, 0, give_up); }

/* Of the rows `out`, of so many bytes, sent[p] go to each process p, in the order of the processes; received[p] come from each. */
int dec_mpi_exchange(const char *out, const int64_t *sent, char *in, const int64_t *received, int64_t bytes, GiveUp give_up) {
  int64_t *const starts = malloc(2 * (size_t)s_size * sizeof(int64_t));
  if (starts == NULL) {
    return REFUSED;
  }
  int64_t *const goes = starts, *const comes = starts + s_size;
  goes[0] = comes[0] = 0;
  for (int process = 1; process < s_size; ++process) {
    goes[process] = goes[process - 1] + sent[process - 1] * bytes;
    comes[process] = comes[process - 1] + received[process - 1] * bytes;
  }
  memcpy(in + comes[s_rank], out + goes[s_rank], (size_t)(sent[s_rank] * bytes));
  int ended = DONE;
  for (int far = 1; far < s_size && ended == DONE; ++far) {
    const int next = (s_rank + far) % s_size, previous = (s_rank + s_size - far) % s_size;
    ended = pass(far, out + goes[next], sent[next] * bytes, in + comes[previous], received[previous] * bytes, give_up);
  }
  free(starts);
  return ended;
}

/* values[i] = the greatest over all processes, in place; 4 of them at the most. */
int dec_mpi_max(int64_t *values, int64_t count, GiveUp give_up) {
  static int64_t exchanged[4]; /* outlives a call that is given up */
  MPI_Request request;
  memcpy(exchanged, values, (size_t)count * sizeof(int64_t));
  if (MPI_Iallreduce(MPI_IN_PLACE, exchanged, (int)count, MPI_INT64_T, MPI_MAX, MPI_COMM_WORLD, &request) != MPI_SUCCESS) {
    return REFUSED;
  }
  const int ended = wait_for(1, &request, give_up);
  if (ended == DONE) {
    memcpy(values, exchanged, (size_t)count * sizeof(int64_t));
  }
  return ended;
}

/* Takes leave of the others, for whom it waits. */
int dec_mpi_leave(void) { return MPI_Finalize() != MPI_SUCCESS; }
