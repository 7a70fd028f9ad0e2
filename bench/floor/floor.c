// The floor: what any server on this machine has to pay, as a bare loop.
//
//   floor PORT [BATCH_MS [HEARTBEAT_MS [HISTORY]]]
//
// One thread, one epoll set. A stream costs accept4, recv, send and epoll_ctl; an event costs one
// send() for each socket of its topic, at once or, with BATCH_MS, one for all events of so many
// milliseconds: a flush begins so long after the one before it began, or at once if that is past.
// A stream of several topics has a batch of its own, into which each event is copied. With
// HEARTBEAT_MS each socket is sent a comment once in so many, evenly spread. With HISTORY 1 every
// frame is kept, and a stream with a Last-Event-ID gets what is newer of its topics, copied topic by
// topic, in one send where the socket takes it. Else no history, no ids to resume from; never an
// order between topics, nor care for full sockets (what a send does not take is lost, and counted
// at the end on stderr): everything a server adds to this is its own cost. Requests and answers have
// Penstock's form, so that the same load test drives both.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { NAME = 256, SLOTS = 8192, ROOM = 1 << 20, LISTENER = -1 };

struct topic {
	char name[NAME];
	int *fds, count, room;    // streams of this topic alone
	struct place *wide;       // those of several
	int wides, wide_room;
	char *batch;
	size_t length;
	char *past;               // with HISTORY: its frames, and where each one begins
	size_t past_length, past_room;
	struct moment { uint64_t id; size_t at; } *moments;
	int moment_count, moment_room;
};

struct place {
	int fd, which; // of the peer's tickets
};

struct ticket {
	struct topic *topic;
	int at; // its place in topic->fds, or topic->wide
};

struct peer {
	struct ticket *tickets; // of a stream
	int count;
	char *in; // of a publisher: a request that has come in part; of a stream of several topics: its batch
	size_t length, room;
};

static struct topic *topics[SLOTS];
static struct topic *filled[SLOTS];
static int fills;
static int *wide_filled, wide_fills;
static struct peer *peers;
static int set, batch_ms, history;
static int heartbeat_ms, *beating, beats, beats_room, beat_at;
static uint64_t next_id, unsent;
static volatile sig_atomic_t stop;

static void end(int sig) { (void)sig; stop = 1; }

static void die(const char *what) {
	perror(what);
	exit(1);
}

static struct topic *topic_of(const char *name, size_t n) {
	uint32_t h = 2166136261u;
	for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)name[i]) * 16777619u;
	for (uint32_t i = h % SLOTS;; i = (i + 1) % SLOTS) {
		struct topic *t = topics[i];
		if (!t) {
			t = topics[i] = calloc(1, sizeof *t);
			memcpy(t->name, name, n);
			return t;
		}
		if (strlen(t->name) == n && !memcmp(t->name, name, n)) return t;
	}
}

static void gone(int fd) {
	struct peer *p = &peers[fd];
	for (int i = 0; i < p->count; i++) {
		struct topic *t = p->tickets[i].topic;
		int at = p->tickets[i].at;
		if (p->count == 1) {
			int last = t->fds[--t->count];
			t->fds[at] = last;
			peers[last].tickets[0].at = at;
		} else {
			struct place last = t->wide[--t->wides];
			t->wide[at] = last;
			peers[last.fd].tickets[last.which].at = at;
		}
	}
	if (p->count > 1 && p->length)
		for (int i = 0; i < wide_fills; i++)
			if (wide_filled[i] == fd) wide_filled[i--] = wide_filled[--wide_fills];
	free(p->tickets);
	free(p->in);
	memset(p, 0, sizeof *p);
	close(fd);
}

static void send_all(struct topic *t, const char *b, size_t n) {
	for (int i = 0; i < t->count; i++)
		if (send(t->fds[i], b, n, MSG_NOSIGNAL) != (ssize_t)n) unsent++;
}

// All of it, however long the socket takes: for what a stream begins with.
static int send_whole(int fd, const char *b, size_t n) {
	while (n) {
		ssize_t m = send(fd, b, n, MSG_NOSIGNAL);
		if (m > 0) {
			b += m;
			n -= m;
		} else if (errno == EAGAIN) {
			struct pollfd p = {.fd = fd, .events = POLLOUT};
			if (poll(&p, 1, 1000) <= 0) return 0;
		} else if (errno != EINTR) {
			return 0;
		}
	}
	return 1;
}

static void flush(void) {
	static char out[ROOM + 32];
	for (int i = 0; i < fills; i++) {
		struct topic *t = filled[i];
		int head = sprintf(out, "%zx\r\n", t->length);
		memcpy(out + head, t->batch, t->length);
		memcpy(out + head + t->length, "\r\n", 2);
		send_all(t, out, head + t->length + 2);
		t->length = 0;
	}
	fills = 0;
	for (int i = 0; i < wide_fills; i++) {
		struct peer *p = &peers[wide_filled[i]];
		int head = sprintf(out, "%zx\r\n", p->length);
		memcpy(out + head, p->in, p->length);
		memcpy(out + head + p->length, "\r\n", 2);
		size_t n = head + p->length + 2;
		if (send(wide_filled[i], out, n, MSG_NOSIGNAL) != (ssize_t)n) unsent++;
		p->length = 0;
	}
	wide_fills = 0;
}

static void keep(struct topic *t, const char *frame, int length) {
	if (t->past_length + length > t->past_room)
		t->past = realloc(t->past, t->past_room = 2 * t->past_room + length + 4096);
	if (t->moment_count == t->moment_room)
		t->moments = realloc(t->moments, (t->moment_room = 2 * t->moment_room + 16) * sizeof *t->moments);
	t->moments[t->moment_count++] = (struct moment){next_id, t->past_length};
	memcpy(t->past + t->past_length, frame, length);
	t->past_length += length;
}

static void publish(struct topic *t, const char *data, size_t n) {
	static char frame[ROOM], out[ROOM + 32];
	int length = sprintf(frame, "data: %.*s\nid: %llu\n\n", (int)n, data, (unsigned long long)++next_id);
	if (history) keep(t, frame, length);
	for (int i = 0; i < t->wides; i++) {
		int fd = t->wide[i].fd;
		struct peer *p = &peers[fd];
		if (p->length + length > ROOM) flush();
		if (p->length + length > p->room) p->in = realloc(p->in, p->room = p->room ? 2 * (p->room + length) : 1024 + length);
		if (!p->length) wide_filled[wide_fills++] = fd;
		memcpy(p->in + p->length, frame, length);
		p->length += length;
	}
	if (!t->count) return;
	if (!batch_ms) {
		int total = sprintf(out, "%x\r\n", length);
		memcpy(out + total, frame, length);
		memcpy(out + total + length, "\r\n", 2);
		send_all(t, out, total + length + 2);
		return;
	}
	if (!t->batch) t->batch = malloc(ROOM);
	if (t->length + length > ROOM) flush();
	if (!t->length) filled[fills++] = t;
	memcpy(t->batch + t->length, frame, length);
	t->length += length;
}

// A publisher's bytes: whole requests are answered, the rest is kept.
static int requests(int fd, char *b, size_t n) {
	struct peer *p = &peers[fd];
	if (p->length) {
		p->in = realloc(p->in, p->length + n + 1);
		memcpy(p->in + p->length, b, n);
		p->length += n;
		b = p->in;
		n = p->length;
	}
	size_t used = 0;
	while (used < n) {
		char *at = b + used, *head = memmem(at, n - used, "\r\n\r\n", 4);
		if (!head) break;
		char *name = memmem(at, head - at, " /publish/", 10), *size = memmem(at, head - at, "Content-Length: ", 16);
		if (!name || !size) return 0;
		size_t length = strtoul(size + 16, 0, 10), whole = head + 4 - at + length;
		if (n - used < whole) break;
		name += 10;
		publish(topic_of(name, (char *)memchr(name, ' ', head - name) - name), head + 4, length);
		char answer[128], id[32];
		int k = sprintf(id, "{\"id\":\"%llu\"}", (unsigned long long)next_id);
		int m = sprintf(answer, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", k, id);
		if (send(fd, answer, m, MSG_NOSIGNAL) != m) return 0;
		used += whole;
	}
	if (p->length) {
		memmove(p->in, p->in + used, p->length - used);
		p->length -= used;
	} else if (used < n) {
		p->in = malloc(n - used);
		memcpy(p->in, b + used, n - used);
		p->length = n - used;
	}
	return 1;
}

static void stream(int fd, char *b, size_t n) {
	static char answer[8 << 20];
	char first[64];
	struct peer *p = &peers[fd];
	char *name = b + strlen("GET /events"), *to = memchr(name, ' ', b + n - name);
	char *id = memmem(to, b + n - to, "\r\nLast-Event-ID: ", 17);
	p->tickets = malloc(8 * sizeof *p->tickets);
	while (name < to) { // /events/T, or /events?topic=T&topic=T...
		name += *name == '/' ? 1 : 7;
		char *end = memchr(name, '&', to - name);
		if (!end) end = to;
		if (p->count && p->count % 8 == 0) p->tickets = realloc(p->tickets, (p->count + 8) * sizeof *p->tickets);
		p->tickets[p->count++].topic = topic_of(name, end - name);
		name = end;
	}
	int k = history && id ? sprintf(first, "retry: 3000\n\n") : sprintf(first, "retry: 3000\nid: %llu\n\n", (unsigned long long)next_id);
	size_t m = sprintf(answer,
		"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache, no-store, no-transform\r\n"
		"X-Accel-Buffering: no\r\nX-Content-Type-Options: nosniff\r\nVary: Accept-Encoding, Origin\r\n"
		"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", k, first);
	if (history && id) {
		uint64_t after = strtoull(id + 17, 0, 10);
		size_t head = m + 8, at = head; // room for the chunk's size, six digits
		for (int i = 0; i < p->count; i++) {
			struct topic *t = p->tickets[i].topic;
			int low = 0, high = t->moment_count;
			while (low < high) {
				int mid = (low + high) / 2;
				if (t->moments[mid].id > after) high = mid; else low = mid + 1;
			}
			if (low == t->moment_count) continue;
			size_t from = t->moments[low].at, length = t->past_length - from;
			if (at + length + 2 > sizeof answer) die("a resume of over 8 MB");
			memcpy(answer + at, t->past + from, length);
			at += length;
		}
		if (at > head) {
			char size[32];
			sprintf(size, "%06zx\r\n", at - head);
			memcpy(answer + m, size, 8);
			memcpy(answer + at, "\r\n", 2);
			m = at + 2;
		}
	}
	struct epoll_event ev = {.events = EPOLLRDHUP | EPOLLET, .data.fd = fd};
	if (!send_whole(fd, answer, m) || epoll_ctl(set, EPOLL_CTL_ADD, fd, &ev)) {
		free(p->tickets);
		memset(p, 0, sizeof *p);
		close(fd);
		return;
	}
	for (int i = 0; i < p->count; i++) {
		struct topic *t = p->tickets[i].topic;
		if (p->count == 1) {
			if (t->count == t->room) t->fds = realloc(t->fds, (t->room = t->room ? 2 * t->room : 16) * sizeof(int));
			p->tickets[i].at = t->count;
			t->fds[t->count++] = fd;
		} else {
			if (t->wides == t->wide_room) t->wide = realloc(t->wide, (t->wide_room = t->wide_room ? 2 * t->wide_room : 16) * sizeof *t->wide);
			p->tickets[i].at = t->wides;
			t->wide[t->wides++] = (struct place){fd, i};
		}
	}
	if (heartbeat_ms) {
		if (beats == beats_room) beating = realloc(beating, (beats_room = beats_room ? 2 * beats_room : 16) * sizeof(int));
		beating[beats++] = fd;
	}
}

static int64_t now_us(void) {
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000LL + ts.tv_nsec / 1000;
}

// One step of ten milliseconds: the share of the sockets that is due. (Sockets are not taken out
// when they close: this mode is for runs in which none does.)
static void beat(void) {
	for (int i = (int)((int64_t)beats * 10 / heartbeat_ms) + 1; i > 0; i--) {
		if (beat_at >= beats) {
			beat_at = 0;
			return;
		}
		if (send(beating[beat_at++], "3\r\n:\n\n\r\n", 8, MSG_NOSIGNAL) != 8) unsent++;
	}
}

int main(int argc, char **argv) {
	static char buf[1 << 18];
	static struct epoll_event events[512];
	if (argc < 2) return fprintf(stderr, "usage: floor PORT [BATCH_MS [HEARTBEAT_MS [HISTORY]]]\n"), 2;
	batch_ms = argc > 2 ? atoi(argv[2]) : 0;
	heartbeat_ms = argc > 3 ? atoi(argv[3]) : 0;
	history = argc > 4 ? atoi(argv[4]) : 0;
	signal(SIGTERM, end);
	signal(SIGINT, end);
	struct rlimit lim;
	getrlimit(RLIMIT_NOFILE, &lim);
	lim.rlim_cur = lim.rlim_max;
	setrlimit(RLIMIT_NOFILE, &lim);
	peers = calloc(lim.rlim_max, sizeof *peers);
	wide_filled = calloc(lim.rlim_max, sizeof *wide_filled);

	int one = 1, ten = 10, l = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	setsockopt(l, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	setsockopt(l, IPPROTO_TCP, TCP_DEFER_ACCEPT, &ten, sizeof ten);
	if (bind(l, (struct sockaddr *)&at, sizeof at) || listen(l, 4096)) die("listen");
	socklen_t size = sizeof at;
	getsockname(l, (struct sockaddr *)&at, &size);
	printf("listening on 127.0.0.1:%d\n", ntohs(at.sin_port));
	fflush(stdout);
	set = epoll_create1(0);
	struct epoll_event ev = {.events = EPOLLIN, .data.fd = LISTENER};
	epoll_ctl(set, EPOLL_CTL_ADD, l, &ev);

	int64_t flushed = 0, next_beat = 0;
	while (!stop) {
		int64_t wait = -1;
		if (heartbeat_ms && beats) {
			int64_t now = now_us();
			if (now >= next_beat) {
				if (next_beat) beat();
				next_beat = (next_beat ? next_beat : now) + 10000;
				continue;
			}
			wait = next_beat - now;
		}
		if (fills || wide_fills) { // a flush begins so long after the one before it began, or at once
			int64_t now = now_us(), due = flushed + batch_ms * 1000;
			if (now >= due) {
				flushed = now;
				flush();
				continue;
			}
			wait = due - now;
		}
		struct timespec ts = {.tv_sec = wait / 1000000, .tv_nsec = wait % 1000000 * 1000};
		int n = epoll_pwait2(set, events, 512, wait < 0 ? NULL : &ts, NULL);
		for (int i = 0; i < n; i++) {
			int fd = events[i].data.fd;
			if (fd == LISTENER) {
				// So many at a time: events go on while a crowd comes in.
				for (int k = 0; k < 64 && (fd = accept4(l, 0, 0, SOCK_NONBLOCK)) >= 0; k++) {
					ssize_t m = recv(fd, buf, sizeof buf, 0);
					if (m > 0 && !memcmp(buf, "GET /events", 11)) {
						stream(fd, buf, m);
						continue;
					}
					struct epoll_event ev = {.events = EPOLLIN | EPOLLRDHUP, .data.fd = fd};
					if (m == 0 || (m < 0 && errno != EAGAIN) || epoll_ctl(set, EPOLL_CTL_ADD, fd, &ev)) {
						close(fd);
					} else if (m > 0 && !requests(fd, buf, m)) {
						gone(fd);
					}
				}
				continue;
			}
			if (peers[fd].count) {
				gone(fd); // a stream: only its end is reported
				continue;
			}
			ssize_t m = recv(fd, buf, sizeof buf, 0);
			if (m > 0 && !peers[fd].length && m > 12 && !memcmp(buf, "GET /events", 11)) {
				epoll_ctl(set, EPOLL_CTL_DEL, fd, 0);
				stream(fd, buf, m);
			} else if (m == 0 || (m < 0 && errno != EAGAIN) || (m > 0 && !requests(fd, buf, m))) {
				gone(fd);
			}
		}
	}
	if (unsent) fprintf(stderr, "floor: %llu sends were not taken whole\n", (unsigned long long)unsent);
	return 0;
}
