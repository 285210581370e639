"""The tasks of the app; MONAI Label loads this folder under the name `lib`."""
