-- SPDX-License-Identifier: Apache-2.0
--
-- The embedded store. Every line "-- migration NUMBER NAME" begins a step, which is run in one transaction and never
-- changed once released: its checksum is kept in schema_version. NUMBER / 1000 is the major version; a program refuses a store
-- whose major version is newer than its own.
--
-- Logs are kept compact (table logs: integer microseconds, binary ids, names in a dictionary). The view pipeline_logs
-- shows them in the readable form, and takes INSERT and DELETE. All other tables are what they look like.

-- migration 1001 tables
CREATE TABLE names (
	id INTEGER PRIMARY KEY,
	text TEXT NOT NULL UNIQUE
);

-- Who writes: one spool each. mark is the greatest sequence number that is stored, and moves with the rows.
CREATE TABLE ingest_source (
	source_id INTEGER PRIMARY KEY,
	source TEXT NOT NULL UNIQUE,
	host TEXT,
	name TEXT,
	mark INTEGER NOT NULL DEFAULT 0,
	stored INTEGER NOT NULL DEFAULT 0,
	duplicates INTEGER NOT NULL DEFAULT 0,
	quarantined INTEGER NOT NULL DEFAULT 0,
	created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ')),
	updated_at TEXT
);

-- What could not be stored as a row, whole: nothing is dropped. payload is the record as it was spooled.
CREATE TABLE log_quarantine (
	id INTEGER PRIMARY KEY,
	source_id INTEGER,
	seq INTEGER,
	created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ')),
	reason TEXT NOT NULL,
	payload BLOB
);

CREATE TABLE experiments (
	id TEXT NOT NULL PRIMARY KEY DEFAULT (lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' ||
		substr(hex(randomblob(2)), 2) || '-a' || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6)))),
	name TEXT,
	status TEXT DEFAULT 'pending',
	config TEXT DEFAULT '{}',
	started_at TEXT,
	completed_at TEXT,
	created_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ'))
);
CREATE INDEX idx_experiments_name ON experiments(name);

CREATE TABLE processing_jobs (
	id TEXT NOT NULL PRIMARY KEY DEFAULT (lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' ||
		substr(hex(randomblob(2)), 2) || '-a' || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6)))),
	experiment_id TEXT REFERENCES experiments(id),
	node_id TEXT,
	status TEXT DEFAULT 'pending',
	log_messages TEXT DEFAULT '[]',
	created_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ')),
	updated_at TEXT
);
CREATE INDEX idx_jobs_experiment ON processing_jobs(experiment_id);

CREATE TABLE pipeline_checkpoints (
	id TEXT NOT NULL PRIMARY KEY DEFAULT (lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' ||
		substr(hex(randomblob(2)), 2) || '-a' || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6)))),
	experiment_id TEXT REFERENCES experiments(id),
	node_id TEXT,
	checkpoint_data TEXT DEFAULT '{}',
	created_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ'))
);
CREATE INDEX idx_checkpoints_experiment ON pipeline_checkpoints(experiment_id, created_at DESC);

-- AUTOINCREMENT: seq is the cursor of follow, so a number must not come back after the newest rows were deleted.
-- id: 16 bytes from us, text from whoever inserts into the view. Numbers without a unit are names.id.
CREATE TABLE logs (
	seq INTEGER PRIMARY KEY AUTOINCREMENT,
	id NOT NULL,
	ts INTEGER NOT NULL, -- microseconds since 1970, UTC
	level TEXT NOT NULL CHECK (level IN ('DEBUG', 'INFO', 'WARNING', 'ERROR', 'CRITICAL')),
	daemon INTEGER,
	logger INTEGER,
	message TEXT,
	experiment INTEGER,
	node INTEGER,
	stage INTEGER,
	job INTEGER,
	run INTEGER,
	pid INTEGER,
	source_id INTEGER,
	source_seq INTEGER,
	created INTEGER NOT NULL, -- microseconds
	context TEXT CHECK (context IS NULL OR json_valid(context)),
	traceback TEXT,
	performance TEXT CHECK (performance IS NULL OR json_valid(performance))
);
CREATE UNIQUE INDEX idx_logs_id ON logs(id);
CREATE INDEX idx_logs_time ON logs(ts);
CREATE INDEX idx_logs_daemon_time ON logs(daemon, ts);
CREATE INDEX idx_logs_experiment_time ON logs(experiment, ts) WHERE experiment IS NOT NULL;
CREATE INDEX idx_logs_node_time ON logs(node, ts) WHERE node IS NOT NULL;
CREATE INDEX idx_logs_errors ON logs(ts) WHERE level IN ('ERROR', 'CRITICAL');
CREATE INDEX idx_logs_errors_daemon ON logs(daemon, ts) WHERE level IN ('ERROR', 'CRITICAL');
CREATE INDEX idx_logs_errors_experiment ON logs(experiment, ts) WHERE level IN ('ERROR', 'CRITICAL');

CREATE VIEW pipeline_logs AS SELECT
	CASE typeof(l.id) WHEN 'blob' THEN lower(substr(hex(l.id), 1, 8) || '-' || substr(hex(l.id), 9, 4) || '-' ||
		substr(hex(l.id), 13, 4) || '-' || substr(hex(l.id), 17, 4) || '-' || substr(hex(l.id), 21)) ELSE l.id END AS id,
	(SELECT n.text FROM names n WHERE n.id = l.experiment) AS experiment_id,
	(SELECT n.text FROM names n WHERE n.id = l.job) AS job_id,
	(SELECT n.text FROM names n WHERE n.id = l.node) AS node_id,
	strftime('%Y-%m-%dT%H:%M:%S', l.ts / 1000000, 'unixepoch') || printf('.%06dZ', l.ts % 1000000) AS timestamp,
	l.level AS level,
	(SELECT n.text FROM names n WHERE n.id = l.logger) AS logger_name,
	l.message AS message,
	ifnull(l.context, '{}') AS context,
	l.traceback AS traceback,
	ifnull(l.performance, '{}') AS performance,
	strftime('%Y-%m-%dT%H:%M:%S', l.created / 1000000, 'unixepoch') || printf('.%06dZ', l.created % 1000000)
		AS created_at,
	(SELECT n.text FROM names n WHERE n.id = l.daemon) AS daemon,
	(SELECT n.text FROM names n WHERE n.id = l.stage) AS stage,
	(SELECT CASE WHEN n.text IN ('stdout', 'stderr') THEN n.text ELSE json_extract(l.context, '$.stream') END
		FROM names n WHERE n.id = l.logger) AS stream,
	l.pid AS pid,
	(SELECT s.host FROM ingest_source s WHERE s.source_id = l.source_id) AS host,
	(SELECT n.text FROM names n WHERE n.id = l.run) AS run,
	(SELECT s.source FROM ingest_source s WHERE s.source_id = l.source_id) AS source,
	l.source_seq AS seq,
	l.seq AS cursor
FROM logs l;

CREATE TRIGGER pipeline_logs_insert INSTEAD OF INSERT ON pipeline_logs BEGIN
	SELECT RAISE(ABORT, 'pipeline_logs.timestamp is no time such as 2026-11-23T18:01:03.412345Z')
		WHERE NEW.timestamp IS NOT NULL AND strftime('%s', NEW.timestamp) IS NULL;
	INSERT OR IGNORE INTO experiments(id) SELECT lower(NEW.experiment_id) WHERE NEW.experiment_id IS NOT NULL;
	INSERT OR IGNORE INTO names(text) SELECT v FROM (SELECT lower(NEW.experiment_id) AS v UNION SELECT NEW.job_id
		UNION SELECT NEW.node_id UNION SELECT NEW.logger_name UNION SELECT NEW.daemon UNION SELECT NEW.stage
		UNION SELECT NEW.run) WHERE v IS NOT NULL;
	INSERT INTO logs(id, ts, level, daemon, logger, message, experiment, node, stage, job, run, pid, created, context,
		traceback, performance) VALUES (
		ifnull(lower(NEW.id), lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' ||
			substr(hex(randomblob(2)), 2) || '-a' || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6)))),
		CASE WHEN NEW.timestamp IS NULL THEN CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) * 1000
			ELSE CAST(strftime('%s', NEW.timestamp) AS INTEGER) * 1000000 + CASE instr(NEW.timestamp, '.') WHEN 0 THEN 0
				ELSE CAST(round(CAST('0' || substr(NEW.timestamp, instr(NEW.timestamp, '.')) AS REAL) * 1000000) AS INTEGER)
				END END,
		ifnull(upper(NEW.level), 'INFO'),
		(SELECT id FROM names WHERE text = NEW.daemon),
		(SELECT id FROM names WHERE text = NEW.logger_name),
		NEW.message,
		(SELECT id FROM names WHERE text = lower(NEW.experiment_id)),
		(SELECT id FROM names WHERE text = NEW.node_id),
		(SELECT id FROM names WHERE text = NEW.stage),
		(SELECT id FROM names WHERE text = NEW.job_id),
		(SELECT id FROM names WHERE text = NEW.run),
		NEW.pid,
		CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) * 1000,
		NEW.context, NEW.traceback, NEW.performance);
END;

CREATE TRIGGER pipeline_logs_delete INSTEAD OF DELETE ON pipeline_logs BEGIN
	DELETE FROM logs WHERE seq = OLD.cursor;
END;

-- severity is the level in small letters; source the component; source_id and seq say which spool record it came from
CREATE TABLE pipeline_events (
	id TEXT NOT NULL UNIQUE DEFAULT (lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' ||
		substr(hex(randomblob(2)), 2) || '-a' || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6)))),
	experiment_id TEXT REFERENCES experiments(id),
	event_type TEXT NOT NULL,
	source TEXT NOT NULL,
	severity TEXT DEFAULT 'info',
	title TEXT NOT NULL,
	details TEXT DEFAULT '{}' CHECK (details IS NULL OR json_valid(details)),
	timestamp TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ')),
	node_id TEXT,
	job_id TEXT,
	stage TEXT,
	daemon TEXT,
	run TEXT,
	pid INTEGER,
	source_id INTEGER,
	seq INTEGER,
	cursor INTEGER PRIMARY KEY AUTOINCREMENT
);
CREATE INDEX idx_events_time ON pipeline_events(timestamp);
CREATE INDEX idx_events_experiment_time ON pipeline_events(experiment_id, timestamp);
CREATE INDEX idx_events_type_time ON pipeline_events(event_type, timestamp);
CREATE INDEX idx_events_daemon_time ON pipeline_events(daemon, timestamp);

CREATE TABLE pipeline_progress (
	id TEXT NOT NULL PRIMARY KEY DEFAULT (lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' ||
		substr(hex(randomblob(2)), 2) || '-a' || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6)))),
	experiment_id TEXT REFERENCES experiments(id),
	node_id TEXT NOT NULL,
	node_level TEXT NOT NULL CHECK (node_level IN ('pipeline', 'phase', 'stage', 'step', 'substep', 'operation')),
	parent_id TEXT,
	node_name TEXT NOT NULL,
	status TEXT NOT NULL CHECK (status IN ('pending', 'running', 'completed', 'failed', 'cancelled')),
	progress_percent REAL DEFAULT 0,
	completed_units INTEGER DEFAULT 0,
	total_units INTEGER DEFAULT 100,
	start_time TEXT,
	end_time TEXT,
	metadata TEXT DEFAULT '{}',
	created_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ')),
	updated_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ')),
	source_id INTEGER,
	seq INTEGER,
	UNIQUE (experiment_id, node_id)
);
CREATE INDEX idx_progress_parent ON pipeline_progress(experiment_id, parent_id);

CREATE TABLE pipeline_metrics (
	id TEXT NOT NULL PRIMARY KEY DEFAULT (lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' ||
		substr(hex(randomblob(2)), 2) || '-a' || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6)))),
	experiment_id TEXT REFERENCES experiments(id),
	node_id TEXT,
	timestamp TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ')),
	memory_mb REAL,
	cpu_percent REAL,
	disk_usage_mb REAL,
	throughput_per_sec REAL,
	custom_metrics TEXT DEFAULT '{}',
	source_id INTEGER,
	seq INTEGER
);
CREATE INDEX idx_metrics_experiment_time ON pipeline_metrics(experiment_id, timestamp);
CREATE INDEX idx_metrics_node_time ON pipeline_metrics(experiment_id, node_id, timestamp);
