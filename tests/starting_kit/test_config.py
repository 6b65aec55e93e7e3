import dataclasses
from pathlib import Path

import pytest

from flair_baseline.config import (
    FOLDER,
    Config,
    describe_keys,
    load_config,
    make_config,
    parse_overrides,
    to_dict,
)
from flair_scoring.base.errors import UsageError


def test_defaults_are_the_papers():
    config = Config()
    assert (config.encoder, config.encoder_weights, config.superpatch_size) == ("resnet34", "imagenet", 40)
    assert (config.optimizer, config.learning_rate, config.schedule) == ("sgd", 0.001, "plateau")
    assert (config.plateau_patience, config.stopping_patience, config.epochs, config.seed) == (
        10,
        30,
        100,
        2022,
    )
    assert (config.batch_size, config.effective_batch_size) == (10, 12 * 10)
    assert config.aerial_class_weights == (1,) * 12 + (0,)
    assert config.satellite_class_weights == (1,) * 11 + (0, 0)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_configuration_of_the_kit_loads_by_name_and_by_path(path):
    assert load_config(path.stem) == load_config(str(path))


TABLE_IV = {  # FILT, AVG M., M.DR, MTD, AUG of the datapaper's Table IV
    "unet": "-----",
    "unet_mtd": "---x-",
    "unet_mtd_aug": "---xx",
    "utt": "-----",
    "utt_filt": "x----",
    "utt_avgm": "-x---",
    "utt_mdr": "--x--",
    "utt_mtd": "---x-",
    "utt_aug": "----x",
    "utt_all": "xxxxx",
    "utt_best": "xx--x",
}


@pytest.mark.parametrize("name", TABLE_IV)
def test_rows_of_table_iv_switch_what_the_table_says_and_nothing_else(name):
    switches = ("cloud_filter", "monthly_average", "modality_dropout", "metadata", "augmentation")
    on = (True, True, 0.5, True, True)
    marked = zip(switches, on, TABLE_IV[name], strict=True)
    expected = {switch: value for switch, value, mark in marked if mark == "x"}
    assert load_config(name) == Config(satellite=name.startswith("utt"), **expected)


def test_overrides_win_and_have_the_type_of_the_key():
    overrides = [
        "learning_rate=1e-4",
        "encoder_weights=null",
        "decoder_channels=[8, 4]",
        "satellite=false",
        "epochs=3",
    ]
    config = load_config("utt_best", overrides)
    assert (config.learning_rate, config.encoder_weights, config.decoder_channels) == (1e-4, None, (8, 4))
    assert (config.satellite, config.epochs, config.augmentation) == (False, 3, True)


def test_plain_values_make_the_same_configuration_again():
    config = load_config("utt_best", ["encoder_weights=null"])
    assert make_config(to_dict(config), "here") == config


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("epoch=3", "unknown key 'epoch'; did you mean 'epochs'?"),
        ("epochs=few", "epochs: 'few' is not a whole number"),
        (f"seed={10**30}", "is not a whole number below 2**63"),
        ("epochs=true", "epochs: True is not a whole number"),
        ("epochs=0", "epochs: 0 is below 1"),
        ("augmentation=1", "augmentation: 1 is not true or false"),
        ("learning_rate=fast", "learning_rate: 'fast' is not a finite number"),
        ("weight_decay=.nan", "weight_decay: nan is not a finite number"),
        (f"learning_rate={10**400}", "is not a finite number"),
        ("modality_dropout=1", "modality_dropout: 1.0 is not from 0 to below 1"),
        ("channels=RGB", "channels: 'RGB' is no selection of R (red), V (green), B (blue)"),
        ("channels=RRV", "channels: 'RRV' is no selection of R (red), V (green), B (blue)"),
        ("channels=rvb", "each at most once; expected for example RVB, IVB or RVBIE"),
        ("channels=''", "channels: '' is no selection of R (red), V (green), B (blue)"),
        ("channels=[R, V]", "channels: ['R', 'V'] is not a text"),
        ("decoder=psp", "decoder: 'psp' is not one of unet, unetplusplus, manet, linknet, fpn, pan, upernet"),
        ("learning_rate=0", "learning_rate: 0.0 is not above 0"),
        ("optimizer=lion", "optimizer: 'lion' is not one of sgd, adamw"),
        ("decoder_channels=8", "decoder_channels: 8 is not a list of whole numbers"),
        ("decoder_channels=[]", "decoder_channels: expected 1 to 5 positive numbers"),
        ("encoder_weights=1", "encoder_weights: 1 is not a text or null"),
        ("encoder_weights=true", "encoder_weights: True is not a text or null"),
        ("stopping_patience=0", "stopping_patience: 0 is below 1"),
        ("aerial_pooling=3", "aerial_pooling: 512 / 3 cannot be halved 5 times"),
        ("superpatch_size=42", "superpatch_size: 42 is no multiple of 8 from 16 to 104"),
        ("effective_batch_size=7", "effective_batch_size: 7 is no multiple of batch_size 10"),
        ("aerial_class_weights=[1, 2]", "aerial_class_weights: expected 13 numbers"),
        ("loss=dice", "loss: 'dice' is not a mapping of names to numbers, such as {cross_entropy: 1"),
        ("loss={dice: heavy}", "loss: {'dice': 'heavy'} is not a mapping of names to numbers"),
        ("loss={dice:1}", "such as {cross_entropy: 1, dice: 0.5} with its spaces"),
        ("loss={dice: .inf}", "loss: {'dice': inf} is not a mapping of names to numbers"),
        ("loss={dise: 1, ohem: 2}", "loss: dise, ohem is none of cross_entropy, dice, lovasz, focal"),
        ("loss={dice: -1, focal: 1}", "loss: expected weights from 0 on, not all 0"),
        ("loss={dice: 0}", "loss: expected weights from 0 on, not all 0"),
        ("loss={}", "loss: expected weights from 0 on, not all 0"),
        ("label_smoothing=1", "label_smoothing: 1.0 is not from 0 to below 1"),
        ("ema=1", "ema: 1.0 is not from 0 to below 1"),
        ("ema=-0.1", "ema: -0.1 is not from 0 to below 1"),
        ("clip_gradients=-1", "clip_gradients: -1.0 is below 0"),
        ("warmup_steps=-1", "warmup_steps: -1 is below 0"),
        ("warmup_steps=5", "warmup_steps: 5 needs schedule=cosine; with plateau choose warmup_steps=0"),
        ("class_weights=inverse", "class_weights: 'inverse' is not one of listed, balanced"),
        ("precision=fp8", "precision: 'fp8' is not one of fp32, bf16, fp16"),
        (
            "seed",
            "'seed' is not of the form key=value, for example epochs=3; a value with spaces needs quotes",
        ),
        ("seed=[", "'seed=[': not valid YAML (line 1: expected the node content, but found"),
        (
            "seed=2022-13-45",
            "not valid YAML (line 1: 2022-13-45 is not a valid date)",
        ),
    ],
)
def test_mistakes_are_named(override, sentence):
    with pytest.raises(UsageError) as caught:
        load_config("utt_best", [override])
    assert sentence in str(caught.value)


def test_smoothing_needs_a_cross_entropy():
    chosen = ["loss={dice: 1}", "label_smoothing=0.1"]
    with pytest.raises(
        UsageError, match="label_smoothing: acts on cross_entropy alone, which loss leaves out"
    ):
        load_config("unet", chosen)
    assert load_config("utt", chosen).satellite  # whose branch has one


def test_a_loss_is_the_same_in_any_order_and_comes_back_from_plain_values():
    config = load_config("utt", ["loss={dice: 1, cross_entropy: 0.5}"])
    assert config.loss == {"cross_entropy": 0.5, "dice": 1.0}
    assert make_config(to_dict(config), "again") == config
    assert hash(config) == hash(make_config(to_dict(config), "again"))


def test_all_mistakes_are_reported_together():
    with pytest.raises(UsageError) as caught:
        load_config("unet", ["epochs=x", "batchsize=2", "learning_rate=0", "seed=-1"])
    assert str(caught.value).splitlines() == [
        "configuration unet (4 problems):",
        "  - unknown key 'batchsize'; did you mean 'batch_size'?",
        "  - epochs: 'x' is not a whole number below 2**63",
        "  - seed: -1 is below 0",
        "  - learning_rate: 0.0 is not above 0",
    ]
    with pytest.raises(UsageError, match="2 problems") as caught:
        load_config("unet", ["epochs", "seed=["])
    with pytest.raises(UsageError, match="3 problems") as caught:
        load_config("unet", ["decoder_channels=[]", "loss={dise: 1}", "ema=2"])
    assert [key in str(caught.value) for key in ("decoder_channels: ", "loss: ", "ema: ")] == [True] * 3


def test_what_an_unreadable_value_would_allow_is_not_called_impossible():
    with pytest.raises(UsageError, match="1 problem") as caught:
        load_config("unet", ["batch_size=x", "effective_batch_size=7"])
    assert "effective" not in str(caught.value)


def test_unknown_configurations_and_other_files_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"neither a file nor one of .*utt_best"):
        load_config("utt_bst")
    path = tmp_path / "my.yaml"
    for content, sentence in (
        (b"- 1\n", "expected lines of key: value, found a list"),
        (b"\xff\xfea", "not UTF-16, which its first bytes announce"),
        (b"a: 1\n b: [", "not valid YAML (line 2: mapping values are not allowed here)"),
        (b"yes: 1\n", "unknown key True\nthe keys are "),
        (
            "epochs: 3\n# entraîné en été\n".encode("latin-1"),
            "line 2 is not UTF-8 (byte 0xee); save",
        ),
        ("epochs: 3\n".encode("utf-16-le"), "not valid YAML (unacceptable character"),
        (
            b"epochs: 3\nseed: 1\n'epochs': 4\n",
            "line 3: the key 'epochs' occurs a second time, after",
        ),
        (b"a: {b: 1,\n b: 2}\n", "line 2: the key 'b' occurs a second time, after line 1"),
        (b"a: &a {b: 1, c: 2}\nd: {<<: [" + b"*a, " * 25_000 + b"]}\n", "more than 100000 values"),
    ):
        path.write_bytes(content)
        with pytest.raises(UsageError) as caught:
            load_config(str(path))
        assert f"{path}" in str(caught.value)
        assert sentence in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_files_of_windows_editors_are_read(tmp_path: Path, encoding: str):
    path = tmp_path / "my.yaml"
    path.write_bytes("# été\r\nepochs: 3\r\n".encode(encoding))
    assert load_config(str(path)).epochs == 3


def test_a_key_may_be_merged_and_given_again(tmp_path: Path):
    path = tmp_path / "my.yaml"
    path.write_text("<<: &short {epochs: 3, seed: 1}\nepochs: 4\n")
    assert (load_config(str(path)).epochs, load_config(str(path)).seed) == (4, 1)


@pytest.mark.parametrize("text", ["None", "none", "NONE", "null", "Null", "~", "", "'null'"])
def test_no_weights_in_every_spelling(text: str):
    assert load_config("unet", [f"encoder_weights={text}"]).encoder_weights is None


IGN_2 = [
    *("data", "path_aerial_train", "path_sen_train", "path_labels_train", "path_aerial_test"),
    *("path_sen_test", "path_labels_test", "path_sp_centroids", "path_metadata_aerial", "out_folder"),
    *("out_model_name", "sat_patch_size", "w_unet_utae", "drop_utae_modality", "aerial_metadata"),
    *("geo_enc_size", "use_augmentation", "filter_clouds", "average_month", "weights_aerial_satellite"),
    *("num_classes", "num_channels_aerial", "num_channels_sat", "num_epochs", "batch_size"),
    *("batch_size_inference", "lr", "num_workers", "accelerator", "gpus_per_node", "num_nodes", "strategy"),
    *("encoder_widths", "decoder_widths", "out_conv", "str_conv_k", "str_conv_s", "str_conv_p", "agg_mode"),
    *("encoder_norm", "n_head", "d_model", "d_k", "ref_year", "ref_date", "pad_value", "padding_mode"),
    *("enable_progress_bar", "progress_rate"),
]


def test_the_official_configuration_is_translated():
    values = dict.fromkeys(IGN_2, 1)  # every key of IGN's flair-2-config.yml
    with pytest.raises(UsageError) as caught:
        make_config(values, "flair-2-config.yml")
    told = str(caught.value)
    for theirs, ours in {
        **{"lr": "learning_rate", "num_epochs": "epochs", "num_workers": "workers", "accelerator": "device"},
        **{"sat_patch_size": "superpatch_size", "drop_utae_modality": "modality_dropout"},
        **{"aerial_metadata": "metadata", "use_augmentation": "augmentation"},
        **{"filter_clouds": "cloud_filter", "average_month": "monthly_average"},
        "num_channels_aerial": "channels",
        "weights_aerial_satellite": "aerial_class_weights and satellite_class_weights",
    }.items():
        assert f"  - {theirs}: a key of IGN's configurations; here it is {ours}\n" in told
    left = told[told.index("  - keys of IGN's configurations that have none here: ") :]
    for key in set(IGN_2) - {"batch_size"}:
        assert (f"- {key}: a key" in told) != (f" {key}," in left or f" {key};" in left), key
    assert "did you mean" not in told
    assert "the keys are" not in told


@pytest.mark.parametrize("key", ["criterion", "lr_scheduler_interval", "x", "пять"])
def test_where_no_key_is_near_all_are_listed(key: str):
    with pytest.raises(UsageError) as caught:
        load_config("unet", [f"{key}=dice", "momentum=1"])
    problems, keys = str(caught.value).split("\nthe keys are ")
    assert "did you mean" not in problems
    assert f"unknown key {key!r}\n  - unknown key 'momentum'" in problems + "\n"
    assert keys.split(", ") == [field.name for field in dataclasses.fields(Config)]


@pytest.mark.parametrize("key", ["Epochs", "epoch", "EPOCHS"])
def test_a_near_key_is_named(key: str):
    with pytest.raises(UsageError, match=f"unknown key '{key}'; did you mean 'epochs'"):
        load_config("unet", [f"{key}=3"])


def test_every_key_is_described_with_its_default():
    lines = [line.split(maxsplit=1) for line in describe_keys().splitlines()]
    told = {key: rest.partition("   ")[0] for key, rest in lines}
    assert parse_overrides([f"{key}={default}" for key, default in told.items()]) == to_dict(Config())
