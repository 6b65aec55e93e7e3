"""The keys of IGN's own configurations (IGNF/FLAIR-1 and IGNF/FLAIR-2), and their names in this kit."""

from __future__ import annotations

RENAMED = {
    "accelerator": "device",
    "aerial_metadata": "metadata",
    "average_month": "monthly_average",
    "classes": "aerial_class_weights",
    "drop_utae_modality": "modality_dropout",
    "encoder_name": "encoder",
    "filter_clouds": "cloud_filter",
    "lr": "learning_rate",
    "num_channels": "channels",
    "num_channels_aerial": "channels",
    "num_epochs": "epochs",
    "num_workers": "workers",
    "sat_patch_size": "superpatch_size",
    "use_augmentation": "augmentation",
    "use_metadata": "metadata",
    "weights_aerial_satellite": "aerial_class_weights and satellite_class_weights",
}
# Keys without a counterpart: folders and machines (options of the command line in this kit), the network's
# shape and inputs (the paper's in this kit), and what the programs print
WITHOUT_COUNTERPART = frozenset(
    (
        *("data", "paths", "path_aerial_train", "path_aerial_test", "path_sen_train", "path_sen_test"),
        *("path_labels_train", "path_labels_test", "path_sp_centroids", "path_metadata_aerial"),
        *("train_csv", "val_csv", "test_csv", "ckpt_model_path", "out_folder", "out_model_name"),
        *("gpus_per_node", "num_nodes", "strategy", "batch_size_inference"),
        *("tasks", "train", "train_load_ckpt", "predict", "metrics", "delete_preds", "georeferencing_output"),
        *("num_classes", "num_channels_sat", "geo_enc_size", "w_unet_utae", "use_weights", "mono_date"),
        *("model_architecture", "norm_type", "norm_means", "norm_stds", "reshape_labels", "ignore_index"),
        *("encoder_widths", "decoder_widths", "out_conv", "str_conv_k", "str_conv_s", "str_conv_p"),
        *("agg_mode", "encoder_norm", "n_head", "d_model", "d_k", "ref_year", "ref_date"),
        *("pad_value", "padding_mode", "fusion", "mlp_type", "aggreg_type"),
        *("enable_progress_bar", "progress_rate", "print_model", "cp_csv_and_conf_to_output"),
    )
)
