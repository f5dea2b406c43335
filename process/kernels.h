/* The loops of decoding that numpy could only do in many passes.
 *
 * Arrays are contiguous and of the lengths that the modules which bind them have checked; nothing here trusts a value in them to be an
 * index unless it was made by this project. Nothing is kept from call to call, and no Python is called, so that the
 * interpreter's lock is free meanwhile (ctypes).
 */
#ifndef KERNELS_H
#define KERNELS_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* That memory will be read soon. */
#ifdef __GNUC__
#define SOON(address) __builtin_prefetch(address)
#else
#define SOON(address) ((void)(address))
#endif

/* What a loop gives in place of a count; UNSUITED: the input has to be handled in another way. */
enum { OUT_OF_MEMORY = -1, UNSUITED = -2 };

#endif
