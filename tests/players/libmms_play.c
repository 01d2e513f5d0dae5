/* Plays an MMS URL with libmms and writes what mms_read gives to a file.
 *
 *     libmms_play URL FILE [mms|mmsx] [BYTES_BEFORE_SEEK time SECONDS | BYTES_BEFORE_SEEK byte OFFSET] [BYTES_AFTER]
 *
 * `mms` is mms_connect (MMST alone), `mmsx` is mmsx_connect, which tries HTTP first. Without BYTES_AFTER it reads to the
 * end. After a seek the file is begun again, so that it holds only what followed. Prints "bytes N".
 */
#include <libmms/mms.h>
#include <libmms/mmsx.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static long copy(mmsx_t *x, mms_t *m, FILE *out, long limit) {
    char buffer[4096];
    long total = 0;
    while (limit <= 0 || total < limit) {
        int want = limit > 0 && limit - total < (long)sizeof buffer ? (int)(limit - total) : (int)sizeof buffer;
        int got = x ? mmsx_read(NULL, x, buffer, want) : mms_read(NULL, m, buffer, want);
        if (got <= 0)
            break;
        fwrite(buffer, 1, (size_t)got, out);
        total += got;
    }
    return total;
}

int main(int argc, char **argv) {
    if (argc < 3)
        return 2;
    int both = argc > 3 && strcmp(argv[3], "mmsx") == 0;
    mms_t *m = both ? NULL : mms_connect(NULL, NULL, argv[1], 128 * 1024 * 1024);
    mmsx_t *x = both ? mmsx_connect(NULL, NULL, argv[1], 128 * 1024 * 1024) : NULL;
    if (!m && !x) {
        fprintf(stderr, "cannot connect to %s\n", argv[1]);
        return 1;
    }
    FILE *out = fopen(argv[2], "wb");
    if (!out)
        return 1;
    long bytes;
    if (argc > 6) {
        copy(x, m, out, atol(argv[4]));
        int sought;
        if (strcmp(argv[5], "time") == 0)
            sought = x ? mmsx_time_seek(NULL, x, atof(argv[6])) : mms_time_seek(NULL, m, atof(argv[6]));
        else
            sought = (x ? mmsx_seek(NULL, x, atol(argv[6]), SEEK_SET) : mms_seek(NULL, m, atol(argv[6]), SEEK_SET)) >= 0;
        if (!sought) {
            fprintf(stderr, "cannot seek\n");
            return 1;
        }
        out = freopen(argv[2], "wb", out);
        if (!out)
            return 1;
        bytes = copy(x, m, out, argc > 7 ? atol(argv[7]) : 0);
    } else {
        bytes = copy(x, m, out, argc > 4 ? atol(argv[4]) : 0);
    }
    fclose(out);
    printf("bytes %ld\n", bytes);
    if (m)
        mms_close(m);
    else
        mmsx_close(x);
    return 0;
}
