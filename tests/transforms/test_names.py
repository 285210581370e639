"""What the names of files and folders say of two patients, and what they do not say."""

from __future__ import annotations

import pytest

from clinicalfmamba_nets.transforms.names import other_patient


@pytest.mark.parametrize(
    ("one", "other", "what"),
    [
        ("sub-01/mr.nii.gz", "sub-02/ct.nii.gz", "subject"),
        ("Patient_7/anat/mr.nii.gz", "Patient_8/anat/ct.nii.gz", "subject"),
        ("sub-01/ses-1/mr.nii.gz", "sub-01/ses-2/ct.nii.gz", "session"),
        ("P001_mr.nii.gz", "P002_ct.nii.gz", "number"),
        ("P001/mr.nii.gz", "P002/ct.nii.gz", "number"),
        ("TCGA-02-0001_mr.nii.gz", "TCGA-02-0003_ct.nii.gz", "number"),
        ("IXI002-Guys-0828-T1.nii.gz", "IXI012-HH-1211-T2.nii.gz", "number"),
        ("MRI/16003.png", "CT/16004.png", "number"),
        ("BraTS19_CBICA_AAB_1_t2.nii.gz", "BraTS19_CBICA_AAG_1_seg.nii.gz", "subject"),
        ("20200101_mr.nii.gz", "20230101_ct.nii.gz", "number"),
    ],
)
def test_two_patients_are_told_by_their_names(one, other, what):
    assert other_patient(one, other) == other_patient(other, one) == what


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("MRI/16003.png", "CT/16003.png"),
        ("subject_07_T1_5.nii.gz", "subject-7_ct_9.nii.gz"),  # the numbers behind are those of series
        ("5_T1_mprage.nii.gz", "3_CT_head.nii.gz"),
        ("brain_401_T1.nii.gz", "brain_301_CT.nii.gz"),
        ("001_mr.nii.gz", "002_ct.nii.gz"),
        ("T1_20200101120000_4.nii.gz", "CT_20200101123000_5.nii.gz"),  # two times of one day
        ("session_ct.nii.gz", "session_mr.nii.gz"),
        ("1234567/mr.nii.gz", "1234568/ct.nii.gz"),  # AccessionNumbers
        ("scan10_mr.nii.gz", "scan11_ct.nii.gz"),
        ("avg152T1.nii", "avg152T2.nii"),
        ("MR001.nii", "CT002.nii"),
        ("IM-0001-0001.png", "IM-0002-0001.png"),  # series and image, as viewers export them
        ("series_0003_mr.nii.gz", "series_0005_ct.nii.gz"),
        ("head2.nii", "head3.nii"),
        ("patient3/mr.png", "patient3/ct.png"),
        ("", "P002_ct.nii.gz"),
    ],
)
def test_series_slices_and_days_are_no_other_patient(one, other):
    assert other_patient(one, other) == other_patient(other, one) == ""


def test_folders_that_both_share_say_nothing():
    assert other_patient("/data/sub-01/a/mr.nii", "/data/sub-01/b/ct.nii") == ""
    assert other_patient("sub-01/P003_mr.nii", "sub-02/P003_ct.nii") == "subject"


def test_numbers_are_left_alone_where_they_are_those_of_media():
    assert other_patient("ST0001/AB0001", "ST0001/AB0002", numbers=False) == ""
