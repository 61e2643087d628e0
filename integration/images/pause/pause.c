/* The first process of a pod sandbox: it holds the pod's namespaces, reaps what it is given, and leaves on TERM or INT.
 * Written in C because one of these runs for every pod, and this one is resident with a few dozen kilobytes. */
#include <signal.h>
#include <sys/wait.h>

int main(void) {
	sigset_t wanted;
	int got;

	sigemptyset(&wanted);
	sigaddset(&wanted, SIGTERM);
	sigaddset(&wanted, SIGINT);
	sigaddset(&wanted, SIGCHLD);
	if (sigprocmask(SIG_BLOCK, &wanted, 0) != 0)
		return 1;
	while (sigwait(&wanted, &got) == 0) {
		if (got != SIGCHLD)
			return 0;
		while (waitpid(-1, 0, WNOHANG) > 0)
			;
	}
	return 2;
}
