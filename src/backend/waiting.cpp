// A team of OpenMP's threads for the calling thread, which has nothing to do and stays for as long as that thread.

extern "C" void dec_waiting_team(int threads) {
#pragma omp parallel num_threads(threads)
  { __asm__ volatile("" ::: "memory"); }
}
