#pragma once

#include <curl/curl.h>

/* curl_easy_setopt, curl_easy_getinfo and curl_multi_setopt are variadic, which Swift cannot call: one wrapper per type. */

/* Options that end in LONG or VALUES. */
static inline CURLcode mcfs_setopt_long(CURL *easy, CURLoption option, long value) {
    return curl_easy_setopt(easy, option, value);
}

/* Options that end in OFF_T: sizes beyond 32 bits. */
static inline CURLcode mcfs_setopt_offset(CURL *easy, CURLoption option, curl_off_t value) {
    return curl_easy_setopt(easy, option, value);
}

/* Options that take text, which curl copies. */
static inline CURLcode mcfs_setopt_string(CURL *easy, CURLoption option, const char *value) {
    return curl_easy_setopt(easy, option, value);
}

/* Options that take a pointer, which curl keeps. */
static inline CURLcode mcfs_setopt_pointer(CURL *easy, CURLoption option, void *value) {
    return curl_easy_setopt(easy, option, value);
}

/* CURLOPT_HTTPHEADER; the list must live until the transfer is over. */
static inline CURLcode mcfs_setopt_list(CURL *easy, CURLoption option, struct curl_slist *value) {
    return curl_easy_setopt(easy, option, value);
}

/* CURLOPT_WRITEFUNCTION and CURLOPT_HEADERFUNCTION, which have the same signature. */
static inline CURLcode mcfs_setopt_callback(CURL *easy, CURLoption option, curl_write_callback value) {
    return curl_easy_setopt(easy, option, value);
}

/* CURLINFO_ values of type long. */
static inline CURLcode mcfs_getinfo_long(CURL *easy, CURLINFO info, long *value) {
    return curl_easy_getinfo(easy, info, value);
}

/* CURLINFO_ values of type curl_off_t: times in microseconds. */
static inline CURLcode mcfs_getinfo_offset(CURL *easy, CURLINFO info, curl_off_t *value) {
    return curl_easy_getinfo(easy, info, value);
}

/* CURLINFO_PRIVATE. */
static inline CURLcode mcfs_getinfo_pointer(CURL *easy, CURLINFO info, void **value) {
    return curl_easy_getinfo(easy, info, (char **)value);
}

/* CURLMOPT_ values of type long. */
static inline CURLMcode mcfs_multi_setopt_long(CURLM *multi, CURLMoption option, long value) {
    return curl_multi_setopt(multi, option, value);
}
