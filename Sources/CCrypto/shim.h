#pragma once

#include <openssl/sha.h>
#include <stddef.h>

/* The functions whose state is a plain struct, so that it can be kept and gone on from. OpenSSL 3 deprecates them for EVP, whose
   state cannot. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
static inline void mcfs_sha256_init(SHA256_CTX *state) { SHA256_Init(state); }
static inline void mcfs_sha256_update(SHA256_CTX *state, const void *bytes, size_t count) {
    SHA256_Update(state, bytes, count);
}
static inline void mcfs_sha256_final(SHA256_CTX *state, unsigned char *digest) { SHA256_Final(digest, state); }
static inline void mcfs_sha1_init(SHA_CTX *state) { SHA1_Init(state); }
static inline void mcfs_sha1_update(SHA_CTX *state, const void *bytes, size_t count) { SHA1_Update(state, bytes, count); }
static inline void mcfs_sha1_final(SHA_CTX *state, unsigned char *digest) { SHA1_Final(digest, state); }
#pragma GCC diagnostic pop
