"""Everything around the networks: data, features, loops, results.

foundations  config files lock device random_state runlog code_lists arrays
data         data folders lists inputs splits shots images transforms
texts        text prompt_files prompt_rules prompt_check negatives
training     engine pieces exchange sampling schedules losses checkpoint stopping
stages       stages features prompt_stage lora_stage head_stage ood_stage auxiliary_stage
test time    inference mta ood classifier outcome shards submission manifest verify
scores       metrics scores ablation report report_figures report_plots report_text
audit        provenance audit_job audit_baseline audit_images
baselines    baseline baseline_result open_set image_sets image_splits batches targets
 their data  archives archive_members tar_stream cifar caltech tiny_imagenet
 and images  pipelines augment randaugment mixing photo_training
 and losses  contrast distill distill_step semi probe linear_protocol
"""

import runtime  # noqa: F401  (before any import of jittor)
