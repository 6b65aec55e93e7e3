import pytest

from flair_baseline.config import FOLDER, Config, load_config, make_config, to_dict
from flair_scoring.errors import UsageError


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
    assert config.batch_size * config.accumulation == 12 * 10
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
        ("channels=RGB", "channels: 'RGB' is not one of RVB, RVBI, RVBIE"),
        ("learning_rate=0", "learning_rate: 0.0 is not above 0"),
        ("optimizer=lion", "optimizer: 'lion' is not one of sgd, adamw"),
        ("decoder_channels=8", "decoder_channels: 8 is not a list of int"),
        ("decoder_channels=[]", "decoder_channels: expected 1 to 5 positive numbers"),
        ("encoder_weights=1", "encoder_weights: 1 is not a text or null"),
        ("stopping_patience=0", "stopping_patience: 0 is below 1"),
        ("aerial_pooling=3", "aerial_pooling: 512 / 3 cannot be halved 5 times"),
        ("superpatch_size=42", "superpatch_size: 42 is no multiple of 8 from 16 to 104"),
        ("effective_batch_size=7", "effective_batch_size: 7 is no multiple of batch_size 10"),
        ("aerial_class_weights=[1, 2]", "aerial_class_weights: expected 13 numbers"),
        ("seed", "'seed': no override; write key=value"),
        ("seed=[", "'seed=[': not valid YAML (line 1: expected the node content, but found"),
        ("seed=2022-13-45", "'seed=2022-13-45': not valid YAML (month must be in 1..12)"),
    ],
)
def test_mistakes_are_named(override, sentence):
    with pytest.raises(UsageError) as caught:
        load_config("utt_best", [override])
    assert sentence in str(caught.value)


def test_all_mistakes_are_reported_together():
    with pytest.raises(UsageError) as caught:
        load_config("unet", ["epochs=x", "batchsize=2", "learning_rate=0", "seed=-1"])
    assert str(caught.value).splitlines() == [
        "configuration unet (4 problems):",
        "  - epochs: 'x' is not a whole number below 2**63",
        "  - unknown key 'batchsize'; did you mean 'batch_size'?",
        "  - seed: -1 is below 0",
        "  - learning_rate: 0.0 is not above 0",
    ]
    with pytest.raises(UsageError, match="2 problems") as caught:
        load_config("unet", ["epochs", "seed=["])


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
        (b"\xff\xfe", "expected lines of key: value"),
        (b"a: 1\n b: [", "not valid YAML (line 2: mapping values are not allowed here)"),
        (b"yes: 1\n", "unknown key True; did you mean"),
    ):
        path.write_bytes(content)
        with pytest.raises(UsageError) as caught:
            load_config(str(path))
        assert f"{path}" in str(caught.value)
        assert sentence in str(caught.value)
