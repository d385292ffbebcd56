#pragma once

#include <zlib.h>

/* inflateInit2 is a macro: it passes the version and size of the header's z_stream. */
static inline int mcfs_inflateInit2(z_stream *stream, int windowBits) {
    return inflateInit2(stream, windowBits);
}
