// SPDX-License-Identifier: GPL-2.0-only
/* The pool gives all it has back before anyone is killed for want of memory. */
#include <signal.h>

#include "util.h"

#define STEP		(16UL << 20)
#define HOGS		4

static long vmstat(const char *name)
{
	FILE *file = fopen("/proc/vmstat", "re");
	char key[64];
	long value, found = -1;

	while (file && found < 0 && fscanf(file, "%63s %ld", key, &value) == 2)
		if (!strcmp(key, name))
			found = value;
	if (file)
		fclose(file);
	return found;
}

/*
 * Takes STEP of private memory for each byte that comes on @orders, and says so on
 * @answers; at the end of orders it looks whether all of that is still there.
 */
static _Noreturn void hog(int orders, int answers)
{
	unsigned char order, *steps[4096];
	size_t nr = 0;

	while (read(orders, &order, 1) == 1) {
		unsigned char *p = mmap(NULL, STEP, PROT_READ | PROT_WRITE,
					MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (p == MAP_FAILED || nr == sizeof(steps) / sizeof(*steps))
			_exit(1);
		for (size_t i = 0; i < STEP; i += 4096)
			p[i] = nr + i / 4096;
		steps[nr++] = p;
		if (write(answers, &order, 1) != 1)
			_exit(2);
	}
	for (size_t s = 0; s < nr; s++)
		for (size_t i = 0; i < STEP; i += 4096)
			if (steps[s][i] != (unsigned char)(s + i / 4096))
				_exit(3);
	_exit(0);
}

FIXTURE(pressure) {
	int dev;
	long pool_mb;
	pid_t hogs[HOGS];
	int orders[HOGS], answers[HOGS];
};

FIXTURE_SETUP(pressure)
{
	self->dev = device_open();
	ASSERT_LE(0, self->dev);
	self->pool_mb = read_long(PARAM_POOL_MB);
	for (int i = 0; i < HOGS; i++) {
		int orders[2], answers[2];

		ASSERT_EQ(0, pipe2(orders, O_CLOEXEC));
		ASSERT_EQ(0, pipe2(answers, O_CLOEXEC));
		self->hogs[i] = fork();
		ASSERT_LE(0, self->hogs[i]);
		if (!self->hogs[i]) {
			/* The others' end of orders would be held open here. */
			for (int j = 0; j < i; j++)
				close(self->orders[j]);
			close(orders[1]);
			hog(orders[0], answers[1]);
		}
		close(orders[0]);
		close(answers[1]);
		self->orders[i] = orders[1];
		self->answers[i] = answers[0];
	}
}

FIXTURE_TEARDOWN(pressure)
{
	EXPECT_EQ(0, set_pool_mb(self->pool_mb));
	close(self->dev);
}

TEST_F(pressure, given_back_before_anyone_is_killed)
{
	struct shmdev_query q;
	long kills, pool, taken = 0;
	unsigned char order = 0;
	int status;

	pool = meminfo("MemTotal") / 3 / HUGE * HUGE;
	ASSERT_EQ(0, set_pool_mb(pool >> 20));
	ASSERT_TRUE(WAIT_FOR(pool_is(self->dev, pool)));
	kills = vmstat("oom_kill");
	ASSERT_LE(0, kills);
	TH_LOG("%ld MiB in the pool, %ld MiB free beside it", pool >> 20,
	       meminfo("MemFree") >> 20);

	/* No more than it takes: whoever goes on after that is killed with good reason. */
	for (int i = 0; !query(self->dev, &q) && q.pool_bytes; i = (i + 1) % HOGS) {
		ASSERT_EQ(1, write(self->orders[i], &order, 1));
		ASSERT_EQ(1, read(self->answers[i], &order, 1)) {
			TH_LOG("one is gone after %ld MiB, %llu MiB still in the pool",
			       taken >> 20, q.pool_bytes >> 20);
		}
		taken += STEP;
	}
	TH_LOG("pool empty after %ld MiB were taken, %ld MiB free, %ld killed", taken >> 20,
	       meminfo("MemFree") >> 20, vmstat("oom_kill") - kills);
	EXPECT_EQ(kills, vmstat("oom_kill"));

	for (int i = 0; i < HOGS; i++) {
		close(self->orders[i]);
		ASSERT_EQ(self->hogs[i], waitpid(self->hogs[i], &status, 0));
		EXPECT_EQ(0, status);
	}
	/* And it is filled again, when there is memory again. */
	EXPECT_TRUE(WAIT_FOR(pool_is(self->dev, pool)));
}

TEST_HARNESS_MAIN
