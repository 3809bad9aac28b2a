DROP TABLE policy_attachment;
DROP TABLE policy_component;
