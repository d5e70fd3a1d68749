// SPDX-License-Identifier: Apache-2.0
/*
 * A job worker: files dropped into WORK/inbox are processed by a few threads.
 *
 * A job file:
 *     job = resample
 *     [params]
 *     rate = 48000
 *     [samples]
 *     3 1 4 1 5
 *
 * A job moves from inbox/ to doing/ before it is looked at and to done/ afterwards, so one that kills the worker is found in
 * doing/ by the next worker, is put into failed/ and is not tried again.
 *
 * It has a bug of the usual kind: settings are looked up in [params] without asking whether there is one.
 */
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <poll.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <unistd.h>

namespace fs = std::filesystem;

// Numbered lines in the order of their numbers; a line is in the pipe before the next thing happens.
class Output {
	std::mutex mutex;
	unsigned number = 0;

public:
	void line(const std::string &text)
	{
		std::lock_guard<std::mutex> lock(mutex);

		printf("line %u: %s\n", ++number, text.c_str());
		fflush(stdout);
	}
};

static Output output;

struct Section {
	std::map<std::string, std::string> values;
	std::vector<double> numbers;
	unsigned lines = 0;

	long get(const std::string &key, long otherwise) const
	{
		if (lines == 0)
			return otherwise;
		auto found = values.find(key);

		return found == values.end() ? otherwise : std::stol(found->second);
	}
};

class Document {
	std::map<std::string, Section> sections;

public:
	explicit Document(const fs::path &path)
	{
		std::ifstream in(path);
		std::string text, name;

		while (std::getline(in, text)) {
			if (text.empty() || text[0] == '#')
				continue;
			if (text[0] == '[') {
				name = text.substr(1, text.find(']') - 1);
				continue;
			}
			sections[name].lines++;
			if (auto at = text.find(" = "); at != std::string::npos) {
				sections[name].values[text.substr(0, at)] = text.substr(at + 3);
			} else {
				std::istringstream row(text);

				for (double x; row >> x;)
					sections[name].numbers.push_back(x);
			}
		}
	}

	const Section *find(const std::string &name) const
	{
		auto found = sections.find(name);

		return found == sections.end() ? nullptr : &found->second;
	}
};

struct Settings {
	long rate, channels;
};

static Settings read_settings(const Document &document)
{
	const Section *params = document.find("params");
	Settings settings;

	settings.rate = params->get("rate", 44100); // the bug: there may be no [params]
	settings.channels = params->get("channels", 2);
	return settings;
}

static double resample(const Document &document, const std::string &job)
{
	Settings settings = read_settings(document);
	const Section *samples = document.find("samples");
	double sum = 0;

	if (samples)
		for (double x : samples->numbers) {
			sum += x * static_cast<double>(settings.rate) / 44100.0;
			output.line(job + ": sample " + std::to_string(x));
		}
	return sum / static_cast<double>(settings.channels);
}

class Worker {
	fs::path work;
	std::mutex mutex;
	std::condition_variable changed;
	std::deque<std::string> jobs;
	bool ending = false;
	std::vector<std::thread> threads;

	void process(const std::string &job)
	{
		std::error_code none;
		fs::rename(work / "inbox" / job, work / "doing" / job, none);
		if (none)
			return; // seen twice: by the first look and by inotify
		Document document(work / "doing" / job);
		double result = resample(document, job);
		output.line(job + ": result " + std::to_string(result));
		fs::rename(work / "doing" / job, work / "done" / job);
	}

	void run()
	{
		for (;;) {
			std::unique_lock<std::mutex> lock(mutex);

			changed.wait(lock, [this] { return ending || !jobs.empty(); });
			if (jobs.empty())
				return;
			std::string job = jobs.front();
			jobs.pop_front();
			lock.unlock();
			process(job);
		}
	}

public:
	Worker(const fs::path &folder, unsigned n) : work(folder)
	{
		for (const char *name : { "inbox", "doing", "done", "failed" })
			fs::create_directories(work / name);
		for (const auto &left : fs::directory_iterator(work / "doing")) {
			output.line(left.path().filename().string() + ": was not finished by the last worker, now in failed/");
			fs::rename(left.path(), work / "failed" / left.path().filename());
		}
		for (unsigned i = 0; i < n; i++)
			threads.emplace_back(&Worker::run, this);
	}

	void add(const std::string &job)
	{
		std::lock_guard<std::mutex> lock(mutex);

		jobs.push_back(job);
		changed.notify_one();
	}

	void finish()
	{
		{
			std::lock_guard<std::mutex> lock(mutex);

			ending = true;
		}
		changed.notify_all();
		for (auto &t : threads)
			t.join();
	}
};

int main(int argc, char **argv)
{
	alignas(inotify_event) char buffer[16384];
	sigset_t quit;

	if (argc != 3) {
		fprintf(stderr, "usage: worker FOLDER THREADS\n");
		return 64;
	}
	sigemptyset(&quit);
	sigaddset(&quit, SIGTERM);
	sigaddset(&quit, SIGINT);
	sigprocmask(SIG_BLOCK, &quit, nullptr); // before the threads, which inherit it
	fs::path inbox = fs::path(argv[1]) / "inbox";
	Worker worker(argv[1], static_cast<unsigned>(atoi(argv[2])));
	int watch = inotify_init1(IN_CLOEXEC), end = signalfd(-1, &quit, SFD_CLOEXEC);
	if (watch < 0 || end < 0 || inotify_add_watch(watch, inbox.c_str(), IN_MOVED_TO | IN_CLOSE_WRITE) < 0) {
		perror("worker: cannot watch the inbox");
		return 71;
	}
	output.line("ready, " + std::string(argv[2]) + " threads");
	for (const auto &job : fs::directory_iterator(inbox))
		worker.add(job.path().filename().string());
	for (;;) {
		pollfd fds[] = { { watch, POLLIN, 0 }, { end, POLLIN, 0 } };

		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[1].revents)
			break;
		ssize_t n = read(watch, buffer, sizeof(buffer));
		for (char *at = buffer; n > 0 && at < buffer + n;) {
			auto *event = reinterpret_cast<inotify_event *>(at);

			if (event->len)
				worker.add(event->name);
			at += sizeof(*event) + event->len;
		}
	}
	worker.finish();
	output.line("asked to end");
	return 0;
}
