#ifndef BASE_MUTANT_H
#define BASE_MUTANT_H
/* MUTANT(name) marks the place of a planted bug: what the code would do if its author had
 * erred. Always false but in the build of `make mutants`, where tests/sim/mutant.h comes first
 * and lets one of them live, for the simulator to find. */
#ifndef MUTANT
#define MUTANT(name) false
#endif
#endif
