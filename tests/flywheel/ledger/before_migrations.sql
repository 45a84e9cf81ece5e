BEGIN TRANSACTION;
CREATE TABLE champions (
	position INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	task_id VARCHAR(32) NOT NULL, 
	model_id VARCHAR(32) NOT NULL, 
	decision_id VARCHAR(32) NOT NULL, 
	bento_tag TEXT NOT NULL, 
	since DATETIME NOT NULL, 
	UNIQUE (decision_id), 
	FOREIGN KEY(decision_id) REFERENCES decisions (id)
);
INSERT INTO "champions" VALUES(1,'task-1','model-a','dec-795baca0a89a','classifier:model-a','2026-03-01 12:00:00.000000');
INSERT INTO "champions" VALUES(2,'task-1','model-c','dec-3de4a64ac252','classifier:model-c','2026-03-01 12:00:00.000000');
CREATE TABLE decisions (
	position INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	id VARCHAR(32) NOT NULL, 
	kind VARCHAR(32) NOT NULL, 
	task_id VARCHAR(32) NOT NULL, 
	inputs JSON NOT NULL, 
	policy JSON NOT NULL, 
	evidence JSON NOT NULL, 
	verdict VARCHAR(32) NOT NULL, 
	reason TEXT NOT NULL, 
	created_at DATETIME NOT NULL, 
	code_version VARCHAR(64) NOT NULL, 
	UNIQUE (id)
);
INSERT INTO "decisions" VALUES(1,'dec-cf4206ffa7ae','gate','task-1','{"champion_id":null,"evaluation_id":"eval-model-a","model_id":"model-a","task_id":"task-1"}','{"largest_ece":0.15}','{"gate":{"champion_id":null,"evaluation_id":"eval-model-a","evaluation_set_id":"evalset-1","id":"dec-cf4206ffa7ae","model_id":"model-a","reason":"All 1 rules passed.","rules":[{"reason":"ECE 0.100 is within 0.150.","rule":"ECE","threshold":0.15,"value":0.1,"verdict":"pass"}],"task_id":"task-1","verdict":"pass"},"images":100}','pass','All 1 rules passed.','2026-03-01 12:00:00.000000','d50d6aed46202a8f2a1aac1651bf4ba62f00cfd7a5e055cb2e5e938604078426');
INSERT INTO "decisions" VALUES(2,'dec-795baca0a89a','promotion','task-1','{"bento_tag":"classifier:model-a","champion_id":null,"expected_champion_id":null,"gate_decision_id":"dec-cf4206ffa7ae","model_id":"model-a","replaces":null,"task_id":"task-1"}','{"requires":"a gate that passed against the champion of the moment"}','{"gate_reason":"All 1 rules passed.","gate_verdict":"pass"}','pass','passed its gate','2026-03-01 12:00:00.000000','d50d6aed46202a8f2a1aac1651bf4ba62f00cfd7a5e055cb2e5e938604078426');
INSERT INTO "decisions" VALUES(3,'dec-8ae2dcb852c4','gate','task-1','{"champion_id":"model-a","evaluation_id":"eval-model-b","model_id":"model-b","task_id":"task-1"}','{"largest_ece":0.15}','{"gate":{"champion_id":"model-a","evaluation_id":"eval-model-b","evaluation_set_id":"evalset-1","id":"dec-8ae2dcb852c4","model_id":"model-b","reason":"ECE is too large.","rules":[{"reason":"ECE 0.100 is within 0.150.","rule":"ECE","threshold":0.15,"value":0.1,"verdict":"fail"}],"task_id":"task-1","verdict":"fail"},"images":100}','fail','ECE is too large.','2026-03-01 12:00:00.000000','d50d6aed46202a8f2a1aac1651bf4ba62f00cfd7a5e055cb2e5e938604078426');
INSERT INTO "decisions" VALUES(4,'dec-4797ba8b512f','gate','task-1','{"champion_id":"model-a","evaluation_id":"eval-model-c","model_id":"model-c","task_id":"task-1"}','{"largest_ece":0.15}','{"gate":{"champion_id":"model-a","evaluation_id":"eval-model-c","evaluation_set_id":"evalset-1","id":"dec-4797ba8b512f","model_id":"model-c","reason":"All 1 rules passed.","rules":[{"reason":"ECE 0.100 is within 0.150.","rule":"ECE","threshold":0.15,"value":0.1,"verdict":"pass"}],"task_id":"task-1","verdict":"pass"},"images":100}','pass','All 1 rules passed.','2026-03-01 12:00:00.000000','d50d6aed46202a8f2a1aac1651bf4ba62f00cfd7a5e055cb2e5e938604078426');
INSERT INTO "decisions" VALUES(5,'dec-3de4a64ac252','promotion','task-1','{"bento_tag":"classifier:model-c","champion_id":"model-a","expected_champion_id":"model-a","gate_decision_id":"dec-4797ba8b512f","model_id":"model-c","replaces":1,"task_id":"task-1"}','{"requires":"a gate that passed against the champion of the moment"}','{"gate_reason":"All 1 rules passed.","gate_verdict":"pass"}','pass','passed its gate','2026-03-01 12:00:00.000000','d50d6aed46202a8f2a1aac1651bf4ba62f00cfd7a5e055cb2e5e938604078426');
INSERT INTO "decisions" VALUES(6,'dec-f54e55e660fa','gate','task-1','{"champion_id":"model-a","evaluation_id":"eval-model-c","model_id":"model-c","task_id":"task-1"}','{"largest_ece":0.1}','{"gate":{"champion_id":"model-a","evaluation_id":"eval-model-c","evaluation_set_id":"evalset-1","id":"dec-f54e55e660fa","model_id":"model-c","reason":"All 1 rules passed.","rules":[{"reason":"ECE 0.100 is within 0.150.","rule":"ECE","threshold":0.15,"value":0.1,"verdict":"pass"}],"task_id":"task-1","verdict":"pass"},"images":100}','pass','All 1 rules passed.','2026-03-01 12:00:00.000000','d50d6aed46202a8f2a1aac1651bf4ba62f00cfd7a5e055cb2e5e938604078426');
CREATE TABLE evaluation_set_uses (
	position INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	evaluation_set_id VARCHAR(32) NOT NULL, 
	model_id VARCHAR(32) NOT NULL, 
	champion_id VARCHAR(32) NOT NULL, 
	decision_id VARCHAR(32) NOT NULL, 
	at DATETIME NOT NULL, 
	UNIQUE (evaluation_set_id, model_id, champion_id), 
	FOREIGN KEY(decision_id) REFERENCES decisions (id)
);
INSERT INTO "evaluation_set_uses" VALUES(1,'evalset-1','model-a','','dec-cf4206ffa7ae','2026-03-01 12:00:00.000000');
INSERT INTO "evaluation_set_uses" VALUES(2,'evalset-1','model-b','model-a','dec-8ae2dcb852c4','2026-03-01 12:00:00.000000');
INSERT INTO "evaluation_set_uses" VALUES(3,'evalset-1','model-c','model-a','dec-4797ba8b512f','2026-03-01 12:00:00.000000');
CREATE INDEX ix_decisions_task_id ON decisions (task_id);
CREATE INDEX ix_decisions_kind ON decisions (kind);
CREATE TRIGGER decisions_no_update BEFORE UPDATE ON decisions BEGIN SELECT RAISE(ABORT, 'decisions is append-only'); END;
CREATE TRIGGER decisions_no_delete BEFORE DELETE ON decisions BEGIN SELECT RAISE(ABORT, 'decisions is append-only'); END;
CREATE TRIGGER decisions_no_replace BEFORE INSERT ON decisions WHEN EXISTS (SELECT 1 FROM decisions WHERE position = NEW.position OR id = NEW.id) BEGIN SELECT RAISE(ABORT, 'decisions is append-only'); END;
CREATE TRIGGER evaluation_set_uses_no_update BEFORE UPDATE ON evaluation_set_uses BEGIN SELECT RAISE(ABORT, 'evaluation_set_uses is append-only'); END;
CREATE TRIGGER evaluation_set_uses_no_delete BEFORE DELETE ON evaluation_set_uses BEGIN SELECT RAISE(ABORT, 'evaluation_set_uses is append-only'); END;
CREATE TRIGGER evaluation_set_uses_no_replace BEFORE INSERT ON evaluation_set_uses WHEN EXISTS (SELECT 1 FROM evaluation_set_uses WHERE position = NEW.position OR (evaluation_set_id = NEW.evaluation_set_id AND model_id = NEW.model_id AND champion_id = NEW.champion_id)) BEGIN SELECT RAISE(ABORT, 'evaluation_set_uses is append-only'); END;
CREATE INDEX ix_champions_task_id ON champions (task_id);
CREATE TRIGGER champions_no_update BEFORE UPDATE ON champions BEGIN SELECT RAISE(ABORT, 'champions is append-only'); END;
CREATE TRIGGER champions_no_delete BEFORE DELETE ON champions BEGIN SELECT RAISE(ABORT, 'champions is append-only'); END;
CREATE TRIGGER champions_no_replace BEFORE INSERT ON champions WHEN EXISTS (SELECT 1 FROM champions WHERE position = NEW.position OR decision_id = NEW.decision_id) BEGIN SELECT RAISE(ABORT, 'champions is append-only'); END;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('decisions',6);
INSERT INTO "sqlite_sequence" VALUES('evaluation_set_uses',3);
INSERT INTO "sqlite_sequence" VALUES('champions',2);
COMMIT;
